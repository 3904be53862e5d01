// The path of the selected camera in time: its keys as dots to drag, the moment that is shown, and ways to travel.

import { button, make, studio, wearColour } from "./dom.js";
import { EASINGS, isAimed, isOrbit } from "./geometry.js";
import { keysOf, still, withKey } from "./rig_store.js";

const KEY_STEP = 0.02; // of the clip, for one press of an arrow key
const APART = 0.01; // between two keys, at least

export class Timeline {
  // `options`: {colours, ways}; `setInMotion(numbers, way)` asks the server, which knows the ways.
  constructor(store, options, setInMotion) {
    this.setInMotion = setInMotion;
    Object.assign(this, { store, options, chosen: null });
    this.title = make("span", { class: "syn-timeof" });
    this.keyButton = button("◆ key", "key: keep the selected camera's place at this moment", () => this.addKey());
    this.easing = make("select", { "aria-label": "how the camera goes on from the chosen key", onchange: () => this.setEasing(this.easing.value) });
    this.easing.append(...Object.keys(EASINGS).map((name) => make("option", { value: name }, name)));
    this.deleteButton = button("delete key", "delete the chosen key", () => this.deleteKey());
    this.pathSelect = make("select", { "aria-label": "a way for the camera to travel", onchange: () => this.travel() });
    this.pathSelect.append(make("option", { value: "" }, "move it…"), ...Object.entries(options.ways).map(([name, says]) => make("option", { value: name, title: says }, name)));
    this.all = make("input", { type: "checkbox", "aria-label": "all cameras travel so" });
    this.stillButton = button("stand still", "make the selected camera stand still where it is now", () => this.stop());
    this.scrubber = make("input", { type: "range", min: 0, max: 1, step: 0.001, "aria-label": "moment of the clip", oninput: () => this.goTo(this.scrubber.valueAsNumber) });
    this.dots = make("div", { class: "syn-dots" });
    const tools = make(
      "div", { class: "syn-timetools" },
      this.title, this.keyButton, this.pathSelect, make("label", { class: "syn-all" }, this.all, "all cameras"), this.easing, this.deleteButton, this.stillButton,
    );
    this.element = make("div", { class: "syn-timeline", role: "group", "aria-label": "path of the selected camera in time" }, tools, make("div", { class: "syn-track" }, this.scrubber, this.dots));
    store.subscribe((what) => this.onChange(what));
    this.show();
  }

  get keys() {
    const { camera } = this.store;
    return "keyframes" in camera ? keysOf(camera) : [];
  }

  onChange(what) {
    if (what === "selection") this.chosen = null;
    if (what === "time") return this.showTime();
    this.show();
  }

  goTo(time) {
    this.store.setTime(time);
    studio.player?.showTime(time);
  }

  addKey() {
    const { store } = this;
    if (!isAimed(store.camera)) return;
    this.store.beforeKey?.();
    store.replace(store.selected, withKey(store.camera, store.time));
    this.choose(this.keys.findIndex((key) => Math.abs(key.time - store.time) < 2e-3));
  }

  choose(index) {
    this.chosen = index >= 0 ? index : null;
    this.show();
  }

  change(keyframes, gesture = "") {
    this.store.replace(this.store.selected, { ...this.store.camera, keyframes }, gesture);
  }

  setEasing(easing) {
    const { store, keys, chosen } = this;
    if (chosen === null) {
      const keyframes = keys.map(({ easing: _, ...key }) => key);
      store.replace(store.selected, { ...store.camera, keyframes, easing });
    } else this.change(keys.map((key, i) => (i === chosen ? { ...key, easing } : key)));
  }

  // Of two keys one is left: a camera that stands still.
  deleteKey() {
    const { store, keys, chosen } = this;
    if (chosen === null) return;
    const left = keys.filter((_, i) => i !== chosen);
    this.chosen = null;
    if (left.length > 1) return this.change(left);
    const { time: _, easing: __, ...place } = left[0];
    const { label, intrinsics } = store.camera;
    store.replace(store.selected, { ...place, ...(label && { label }), ...(intrinsics && { intrinsics }) });
  }

  travel() {
    const { store } = this;
    const way = this.pathSelect.value;
    this.pathSelect.value = "";
    if (way) this.setInMotion(this.all.checked ? store.cameras.map((_, i) => i) : [store.selected], way);
  }

  stop() {
    const { store } = this;
    store.replace(store.selected, still(store.camera, store.time));
  }

  // ----------------------------------------------------------------------------------------------------------- showing

  show() {
    const { store, keys, chosen } = this;
    this.title.textContent = `camera ${store.selected + 1}`;
    wearColour(this.element, this.options.colours, store.selected);
    this.keyButton.disabled = !isAimed(store.camera);
    this.easing.hidden = !keys.length;
    this.easing.disabled = chosen === keys.length - 1;
    this.easing.value = (chosen !== null && keys[chosen]?.easing) || store.camera.easing || "linear";
    this.deleteButton.hidden = chosen === null || !keys.length;
    this.stillButton.hidden = isOrbit(store.camera);
    while (this.dots.children.length > keys.length) this.dots.lastChild.remove();
    while (this.dots.children.length < keys.length) this.dots.append(this.makeDot(this.dots.children.length));
    keys.forEach((key, index) => {
      const dot = this.dots.children[index];
      dot.style.left = `${100 * key.time}%`;
      dot.setAttribute("aria-valuenow", Math.round(100 * key.time));
      dot.classList.toggle("chosen", index === chosen);
    });
    this.showTime();
  }

  showTime() {
    this.scrubber.value = this.store.time;
  }

  makeDot(index) {
    const dot = make("button", {
      type: "button", class: "syn-dot", role: "slider", "aria-label": `key ${index + 1}, percent of the clip`, "aria-valuemin": 0, "aria-valuemax": 100,
      onfocus: () => this.choose(index), onblur: () => this.store.endGesture(),
    });
    dot.addEventListener("pointerdown", (event) => this.drag(event, dot, index));
    dot.addEventListener("click", () => this.goTo(this.keys[index].time));
    dot.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -KEY_STEP, ArrowRight: KEY_STEP, ArrowDown: -KEY_STEP, ArrowUp: KEY_STEP }[event.key];
      if (by) this.retime(index, this.keys[index].time + by, `retime ${index}`);
      else if (["Delete", "Backspace"].includes(event.key)) this.deleteKey();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return dot;
  }

  // A key stays between its neighbours.
  retime(index, time, gesture) {
    const { keys } = this;
    const low = index ? keys[index - 1].time + APART : 0;
    const high = index < keys.length - 1 ? keys[index + 1].time - APART : 1;
    const at = Number(Math.min(high, Math.max(low, time)).toFixed(3));
    this.change(keys.map((key, i) => (i === index ? { ...key, time: at } : key)), gesture);
    this.goTo(at);
  }

  drag(event, dot, index) {
    dot.setPointerCapture(event.pointerId);
    const box = this.dots.getBoundingClientRect();
    this.store.beforeKey?.();
    const move = (e) => this.retime(index, (e.clientX - box.left) / box.width, `drag key ${index}`);
    const end = () => {
      dot.removeEventListener("pointermove", move);
      this.store.endGesture();
    };
    dot.addEventListener("pointermove", move);
    dot.addEventListener("pointerup", end, { once: true });
    dot.addEventListener("pointercancel", end, { once: true });
  }
}
