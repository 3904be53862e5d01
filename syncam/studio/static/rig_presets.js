// Presets as chips, what was read from an imported file, and the picker for files of more cameras than a rig has.

import { button, make } from "./dom.js";
import { fieldOf } from "./rig_rows.js";

export class RigPresets {
  constructor(store, presets) {
    Object.assign(this, { store, presets });
    const chips = (wanted) => make("div", { class: "syn-chips", role: "group", "aria-label": "camera presets" }, ...presets.filter(wanted).map((preset) => this.makeChip(preset)));
    const more = make("details", { class: "syn-more" }, make("summary", {}, "More presets"), chips((preset) => !preset.featured));
    this.pickerTitle = make("span", {});
    this.pickerRings = make("span", { class: "syn-rings" });
    this.pickerChips = make("div", { class: "syn-picks" });
    this.picker = make("div", { class: "syn-picker", hidden: true }, this.pickerTitle, this.pickerRings, this.pickerChips);
    this.note = make("p", { class: "syn-note", role: "status" });
    const ask = (as, text, label) => {
      const choice = button(text, label, () => this.takeAs(as), "chip");
      choice.dataset.as = as;
      choice.removeAttribute("aria-label"); // its name is what it shows, which changes
      return choice;
    };
    this.answers = [ask("stills", "still cameras", "each pose is a camera that stands still"), ask("path", "one moving camera", "all poses are the way of one camera that moves")];
    this.question = make("div", { class: "syn-chips", role: "group", "aria-label": "what the file's poses are" }, make("span", {}, "Its poses are"), ...this.answers);
    this.imported = make("div", { class: "syn-imported", hidden: true }, this.note, this.question);
    this.element = make("div", { class: "syn-presets" }, chips((preset) => preset.featured), more, this.imported, this.picker);
    store.subscribe((what) => what === "rig" && this.show());
  }

  takeAs(as) {
    const { document } = this.store.source;
    if (as === "path") this.store.openPath(document);
    else this.store.open(document);
  }

  showImported() {
    const { source } = this.store;
    this.imported.hidden = !source;
    if (!source) return;
    const { document, as } = source;
    if (this.note.textContent !== document.note) this.note.textContent = document.note; // else it would be read out again
    this.question.hidden = !document.path;
    this.answers[0].textContent = `${document.cameras.length} still cameras`;
    for (const answer of this.answers) answer.setAttribute("aria-pressed", answer.dataset.as === as);
  }

  makeChip(preset) {
    const chip = button(preset.title.replace(/, (\d+) cameras$/, " $1"), preset.description || preset.title, () => this.store.open(preset.document), "chip");
    chip.dataset.preset = preset.name;
    return chip;
  }

  show() {
    const current = JSON.stringify(this.store.cameras);
    for (const chip of this.element.querySelectorAll("[data-preset]")) {
      const { document } = this.presets.find((preset) => preset.name === chip.dataset.preset);
      chip.setAttribute("aria-pressed", JSON.stringify(document.cameras) === current || this.store.pool === document);
    }
    this.showImported();
    this.showPicker();
  }

  showPicker() {
    const { pool, picked, maxViews } = this.store;
    this.picker.hidden = !pool;
    if (!pool) return;
    this.pickerTitle.textContent = `${pool.title?.replace(/, \d+ cameras$/, "") || "This file"} has ${pool.cameras.length} cameras; pick up to ${maxViews}:`;
    this.pickerRings.replaceChildren(...Object.entries(pool.rings ?? {}).map(([key, values]) => this.makeRing(key, values)));
    this.pickerChips.replaceChildren(
      ...pool.cameras.map((entry, index) => {
        const on = picked.includes(index);
        const toggled = on ? picked.filter((i) => i !== index) : [...picked, index];
        const chip = button(String(index + 1), `camera ${index + 1} of the file ${entry.label ?? ""}`, () => this.store.pick(toggled), "pick");
        chip.setAttribute("aria-pressed", on);
        return chip;
      }),
    );
  }

  // A dataset's ring has one distance and one elevation for all its cameras, of several that it comes in.
  makeRing(key, values) {
    const { store } = this;
    const { name, unit } = fieldOf(key);
    const choice = make("select", {
      "aria-label": `ring ${name}`,
      onchange: () => store.pick(store.picked, { ...store.pool, cameras: store.pool.cameras.map((entry) => ({ ...entry, [key]: Number(choice.value) })) }),
    });
    choice.append(...values.map((value) => make("option", { value, selected: value === store.pool.cameras[0][key] }, `${name} ${value} ${unit}`)));
    return choice;
  }
}
