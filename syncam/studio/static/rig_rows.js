// One row for each camera: its number, its three numbers, and three sliders for the selected one.

import { button, icon, make, wearColour } from "./dom.js";
import { isAimed, isOrbit, matricesOf, moves } from "./geometry.js";
import { keysOf, still, turned } from "./rig_store.js";

const FIELDS = [
  { key: "distance_m", name: "distance", unit: "m", words: "metres", step: 0.1, digits: 2 },
  { key: "elevation_deg", name: "elevation", unit: "°", words: "degrees", step: 1, digits: 1 },
  { key: "azimuth_deg", name: "azimuth", unit: "°", words: "degrees", step: 1, digits: 1 },
];
export const fieldOf = (key) => FIELDS.find((field) => field.key === key);

export class RigRows {
  constructor(store, props) {
    Object.assign(this, { store, props });
    const heads = make("div", { class: "syn-columns", "aria-hidden": "true" }, ...FIELDS.map((field) => make("span", {}, `${field.name}, ${field.unit}`)));
    this.rows = Array.from({ length: store.maxViews }, (_, index) => this.makeRow(index));
    this.element = make("div", { class: "syn-rows" }, heads, ...this.rows.map((row) => row.node));
    store.subscribe((what) => (what !== "time" || !store.cameras.every(isOrbit)) && this.show());
  }

  makeRow(index) {
    const { store, props } = this;
    const number = index + 1;
    const badge = make("button", { type: "button", class: "syn-badge", "aria-label": `select camera ${number}`, onclick: () => store.select(index) }, String(number));
    const fields = FIELDS.map((field) => this.makeField(index, field));
    const row = { fields, badge };
    row.path = make("span", { class: "syn-path" });
    row.numbers = make("div", { class: "syn-numbers" }, ...fields.map(({ box }) => box));
    row.remove = button(icon("remove"), `remove camera ${number}`, () => store.remove(index));
    row.sliders = make("div", { class: "syn-sliders" }, ...fields.map(({ field, slider }) => make("label", {}, make("span", {}, field.name), slider)));
    row.node = make("div", { class: "syn-row", role: "group", "aria-label": `camera ${number}` }, badge, row.numbers, row.path, row.remove, row.sliders);
    wearColour(row.node, props.colours, index);
    return row;
  }

  makeField(index, field) {
    const { store, props } = this;
    const [low, high] = props.ranges[field.key];
    const label = `camera ${index + 1} ${field.name}`;
    const common = { min: low, max: high, step: field.step, onfocus: () => store.select(index) };
    const slider = make("input", {
      ...common, type: "range", "aria-label": label,
      oninput: () => store.move(index, { [field.key]: this.sameTurn(index, field.key, slider.valueAsNumber) }, `slide ${index} ${field.key}`),
      onchange: () => store.endGesture(),
    });
    const box = make("input", {
      ...common, type: "number", "aria-label": `${label} in ${field.words}`,
      onchange: () => {
        // Sliders end where it makes sense to drag to; typed numbers may go on to where the model says no.
        if (Number.isFinite(box.valueAsNumber)) store.move(index, { [field.key]: box.valueAsNumber });
        else this.show();
      },
    });
    return { field, slider, box };
  }

  // A key of a path that goes around more than once keeps its turn when a slider, which has but one, moves it.
  sameTurn(index, key, value) {
    const entry = this.store.cameras[index];
    if (key !== "azimuth_deg" || isOrbit(entry)) return value;
    return value + 360 * Math.round((still(entry, this.store.time)[key] - value) / 360);
  }

  // What the model has seen is the darker part of each slider.
  showModel() {
    for (const { fields } of this.rows)
      for (const { field, slider } of fields) {
        const [low, high] = this.props.ranges[field.key];
        const [from, to] = this.props.trained[field.key] ?? [low, low];
        const at = (value) => `${(100 * (Math.min(Math.max(value, low), high) - low)) / (high - low)}%`;
        slider.style.setProperty("--from", at(from));
        slider.style.setProperty("--to", at(to));
      }
  }

  show() {
    const { store } = this;
    this.rows.forEach((row, index) => {
      const entry = store.cameras[index];
      row.node.hidden = !entry;
      if (!entry) return;
      const chosen = index === store.selected;
      row.node.classList.toggle("selected", chosen);
      row.badge.setAttribute("aria-pressed", chosen);
      row.numbers.hidden = !isAimed(entry);
      row.sliders.hidden = !isAimed(entry) || !chosen;
      row.path.hidden = isOrbit(entry);
      row.remove.disabled = store.cameras.length === 1;
      row.path.textContent = kindOf(entry);
      row.path.title = "keyframes" in entry ? `moves, with ${keysOf(entry).length} keys` : "";
      if (!isAimed(entry)) return;
      const place = isOrbit(entry) ? entry : still(entry, store.time);
      for (const { field, slider, box } of row.fields) {
        const value = field.key === "azimuth_deg" ? turned(place[field.key]) : place[field.key]; // 270 is at -90
        slider.value = value;
        box.value = Number(place[field.key].toFixed(field.digits));
      }
    });
  }
}

function kindOf(entry) {
  const label = entry.label ? `${entry.label}: ` : "";
  if (isOrbit(entry)) return label;
  if ("keyframes" in entry) return `${label}◆ ${keysOf(entry).length}`;
  const poses = matricesOf(entry).length;
  return `${label}${moves(entry) ? `moves along ${poses} poses` : "stands at a pose from a file"}`;
}
