// The 3D view: draws the scene when something has changed, turns with the pointer, and lets the cameras be pulled. The
// cameras' numbers are buttons above the picture: they can be focused, pressed and dragged like any other.

import { PerspectiveCamera, Vector3, WebGLRenderer } from "./vendor/three.min.js";
import { button, make, studio, wearColour } from "./dom.js";
import { farthestOf, isAimed, placeAt, poseAt } from "./geometry.js";
import { curvePoints, HANDLES, keyPull, pull, pullOverSphere } from "./rig_handles.js";
import { RigScene } from "./rig_scene.js";
import { PLACE } from "./rig_store.js";

const FOV_DEG = 35;
const FIRST_LOOK = { azimuth: -38, elevation: 26 }; // to the right of the front, above, as syncam.rig_plot
const KNOB_PIXELS = 7; // a handle's knob, from its middle
const NEAR_PIXELS = { mouse: 9, pen: 14, touch: 22 }; // how close to a handle's line a pointer takes it
const radians = (degrees) => (degrees * Math.PI) / 180;

export class RigStage {
  // `lensOf(entry)`: the lens of a camera; `options`: {colours, groundZ, ranges} with ranges by handle.
  constructor(store, lensOf, options) {
    Object.assign(this, { store, lensOf, options });
    this.world = new RigScene(options);
    this.eye = new PerspectiveCamera(FOV_DEG, 1, 0.05, 4000);
    this.eye.up.set(0, 0, 1);
    this.own = false; // whether the viewpoint is the person's own: then only the person changes it
    this.canvas = make("canvas", { "aria-hidden": "true" });
    // Where 3D is drawn in software, smooth edges would cost four times as much.
    const fast = make("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
    this.renderer = new WebGLRenderer({ canvas: this.canvas, antialias: Boolean(fast), alpha: true });
    this.renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
    this.spots = Array.from({ length: store.maxViews }, (_, index) => this.makeSpot(index));
    this.labels = make("div", { class: "syn-labels", "aria-hidden": "true" });
    this.hint = make("p", { class: "syn-viewhint" });
    this.fromButton = button("", "look from the selected camera", () => this.lookFromSelected());
    this.fromButton.removeAttribute("aria-label"); // its name is what it shows, which changes
    const tools = make(
      "div", { class: "syn-viewtools" },
      button("reset", "reset the 3D view", () => this.reset()),
      button("top", "look from above", () => this.look({ azimuth: 0, elevation: 89.9, distance: this.fitting(89.9) })),
      this.fromButton,
    );
    this.element = make(
      "div",
      {
        class: "syn-stage", tabindex: 0, role: "group",
        "aria-label": "cameras around the scene in 3D. Arrow keys turn the view, plus and minus bring it closer; tab goes to the cameras.",
      },
      this.canvas, this.labels, this.hint, ...this.spots, tools,
    );
    this.listen();
    this.showHint();
    store.subscribe((what) => this.onChange(what));
    this.look({ ...FIRST_LOOK, distance: 10 }, false);
  }

  makeSpot(index) {
    const spot = make("button", { type: "button", class: "syn-spot", onfocus: () => this.store.select(index) }, String(index + 1));
    wearColour(spot, this.options.colours, index);
    spot.addEventListener("pointerdown", (event) => this.takeCamera(event, index));
    spot.addEventListener("keydown", (event) => this.pressOnCamera(event, index));
    spot.addEventListener("blur", () => this.store.endGesture());
    return spot;
  }

  // ------------------------------------------------------------------------------------------------------ the onlooker

  // Where the onlooker stands: {azimuth, elevation, distance} around the centre.
  look(view, own = true) {
    this.view = { ...this.view, ...view };
    this.own = own;
    const { azimuth, elevation, distance } = this.view;
    const [az, el] = [radians(azimuth), radians(Math.min(89.9, Math.max(-20, elevation)))];
    this.eye.position.set(distance * Math.cos(el) * Math.cos(az), distance * Math.cos(el) * Math.sin(az), distance * Math.sin(el));
    this.eye.lookAt(0, 0, 0);
    this.redraw();
  }

  reset() {
    this.look({ ...FIRST_LOOK, distance: this.fitting(FIRST_LOOK.elevation) }, false);
  }

  // How far away everything is in the picture; from above, less of the height is needed than the radius says.
  fitting(elevation) {
    const radius = 1.12 * farthestOf(this.store.cameras, this.store.time) + 0.3;
    const half = Math.tan(radians(FOV_DEG / 2));
    const across = radius / (half * this.eye.aspect);
    const upright = (radius * (0.35 + 0.65 * Math.sin(radians(elevation)))) / half;
    return Math.max(across, upright) + (elevation < 60 ? 0.75 * radius : 0);
  }

  // The metres that a pixel covers where the scene's centre is.
  pixelSize() {
    return (2 * this.view.distance * Math.tan(radians(FOV_DEG / 2))) / Math.max(1, this.element.clientHeight);
  }

  lookFromSelected() {
    const { position } = poseAt(this.store.camera, this.store.time);
    const far = Math.hypot(...position) || 1;
    this.look({
      azimuth: (Math.atan2(position[1], position[0]) * 180) / Math.PI,
      elevation: (Math.asin(position[2] / far) * 180) / Math.PI,
      distance: 1.6 * far,
    });
  }

  // ---------------------------------------------------------------------------------------------------------- drawing

  onChange(what) {
    if (what !== "time" || this.store.cameras.some((entry) => !("distance_m" in entry))) this.stale = true;
    if (what === "rig" && !this.own && !this.held) this.fit();
    this.redraw();
  }

  fit() {
    this.look({ distance: this.fitting(this.view.elevation) }, false);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.eye.aspect = width / height;
    this.eye.updateProjectionMatrix();
    if (this.own) this.redraw();
    else this.fit();
  }

  // Draws with the next picture of the screen. `event` is what it answers: the time between is in the page's timeline.
  redraw(event) {
    this.answering ??= event?.timeStamp;
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.waiting = null;
    const { store, world } = this;
    if (this.stale !== false) {
      world.update(store.cameras, store.cameras.map(this.lensOf), store.time);
      world.select(store.selected);
      this.stale = false;
    }
    const place = this.place(store.selected);
    world.showHandles(place, this.options.ranges, this.held ?? this.over, KNOB_PIXELS * this.pixelSize());
    world.showPictures(studio.player, (index, lens) => this.options.showsResult(index, lens));
    this.eye.updateMatrixWorld();
    this.placeLabels();
    this.renderer.render(world.scene, this.eye);
    if (this.answering !== undefined) performance.measure("syncam-redraw", { start: this.answering, end: performance.now() });
    this.answering = undefined;
    this.element.dataset.view = JSON.stringify(this.view);
    this.onDrawn?.();
  }

  setColours() {
    const style = getComputedStyle(this.element);
    this.world.setColours((name) => style.getPropertyValue(name).trim());
    this.redraw();
  }

  // A point of the world in the picture: x and y in css pixels, and how far away it is (1 and more: behind).
  project = (point) => {
    const { x, y, z } = new Vector3(...point).project(this.eye);
    return [((1 + x) * this.element.clientWidth) / 2, ((1 - y) * this.element.clientHeight) / 2, z];
  };

  ray = ([x, y]) => {
    const { clientWidth: width, clientHeight: height } = this.element;
    const origin = this.eye.position;
    const direction = new Vector3((2 * x) / width - 1, 1 - (2 * y) / height, 0.5).unproject(this.eye).sub(origin).normalize();
    return { origin: origin.toArray(), direction: direction.toArray() };
  };

  placeLabels() {
    const { store, world, spots } = this;
    spots.forEach((spot, index) => {
      const entry = store.cameras[index];
      spot.hidden = !entry;
      if (!entry) return;
      const [x, y, depth] = this.project(world.poses[index].position);
      spot.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      spot.style.zIndex = Math.round(1000 * (2 - depth));
      spot.setAttribute("aria-pressed", index === store.selected);
      const place = this.place(index);
      const where = place ? `${place[0].toFixed(2)} m away, ${place[1].toFixed(0)}° up, ${place[2].toFixed(0)}° to the right of the front` : "placed by a file";
      const under = world.poses[index].position[2] < this.options.groundZ;
      spot.classList.toggle("under", under);
      spot.setAttribute("aria-label", `camera ${index + 1}: ${where}${under ? ", inside the ground" : ""}`);
    });
    const texts = [...world.radii.map((radius) => [[radius * -0.5, radius * -0.866, this.options.groundZ], `${radius} m`]), [[1.85, 0, this.options.groundZ], "front"]];
    while (this.labels.children.length < texts.length) this.labels.append(make("span", {}));
    [...this.labels.children].forEach((label, i) => {
      label.hidden = i >= texts.length;
      if (label.hidden) return;
      const [x, y] = this.project(texts[i][0]);
      label.textContent = texts[i][1];
      label.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
    });
    this.fromButton.textContent = `from camera ${store.selected + 1}`;
  }

  // The numbers of a camera at this moment; null for one that a file has placed.
  place(index) {
    const entry = this.store.cameras[index];
    return entry && isAimed(entry) ? placeAt(entry, this.store.time) : null;
  }

  // ---------------------------------------------------------------------------------------------------------- pointers

  listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => this.press(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => this.release(event));
    element.addEventListener("keydown", (event) => this.pressKey(event));
    element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    element.addEventListener("focusout", ({ relatedTarget }) => element.contains(relatedTarget) || this.activate(false));
    element.addEventListener("click", (event) => event.pointerType === "touch" && this.activate(true));
    document.addEventListener("pointerdown", (event) => element.contains(event.target) || this.activate(false));
  }

  // On a touch screen one finger scrolls the page until a tap has said that the view is meant.
  activate(on) {
    this.active = on;
    this.element.classList.toggle("active", on);
    this.showHint();
  }

  // What can be done here, until it has been done; then what a handle does that is under the pointer.
  showHint() {
    const { store, over, hint } = this;
    const drag = "Drag a camera or its blue handles; drag the ground to turn the view.";
    const first = matchMedia("(pointer: coarse)").matches && !this.active ? "Tap to move cameras here." : drag;
    hint.textContent = over ? `camera ${store.selected + 1}: ${HANDLES[over]}` : this.known ? "" : first;
  }

  at(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  ignores = (event) => event.button !== 0 || (event.pointerType === "touch" && !this.active);

  takeCamera(event, index) {
    if (this.ignores(event)) return;
    event.stopPropagation();
    this.store.select(index);
    const place = this.place(index);
    event.currentTarget.focus({ preventScroll: true });
    event.preventDefault();
    if (place) this.begin(event, index, "camera", pullOverSphere(place, this.at(event), this.project, this.ray, this.options.ranges));
  }

  press(event) {
    if (this.ignores(event) || event.target.closest(".syn-viewtools")) return;
    this.element.focus({ preventScroll: true });
    event.preventDefault();
    const handle = this.handleAt(event);
    if (!handle) return this.begin(event, null, "view", this.turning(event));
    const index = this.store.selected;
    this.begin(event, index, handle, pull(handle, this.place(index), this.at(event), this.project, this.options.ranges));
  }

  begin(event, index, held, answer) {
    this.store.endGesture();
    this.held = held;
    this.drag = { index, answer, pointer: event.pointerId };
    this.element.setPointerCapture(event.pointerId);
    this.element.classList.add("dragging");
    this.known = true;
    this.showHint();
    if (index !== null) this.onDrag?.(index);
  }

  move(event) {
    if (!this.drag) return event.pointerType === "mouse" && this.hover(event);
    if (event.pointerId !== this.drag.pointer) return;
    const { index, answer } = this.drag;
    const values = answer(this.at(event), event.shiftKey);
    if (index !== null) this.set(index, values, `pull ${index} ${this.held}`);
    this.redraw(event);
  }

  release(event) {
    if (!this.drag || event.pointerId !== this.drag.pointer) return;
    this.drag = this.held = null;
    this.element.classList.remove("dragging");
    this.store.endGesture();
    this.onDrag?.(null);
    if (!this.own) this.fit();
    this.redraw();
  }

  // Turns the view with the pointer.
  turning(event) {
    const began = this.at(event);
    const { azimuth, elevation } = this.view;
    return ([x, y]) => {
      this.look({ azimuth: azimuth - 0.4 * (x - began[0]), elevation: Math.min(89.9, Math.max(-20, elevation + 0.3 * (y - began[1]))) });
    };
  }

  hover(event) {
    const over = event.target === this.canvas || event.target === this.element ? this.handleAt(event) : null;
    if (over === this.over) return;
    this.over = over;
    this.element.classList.toggle("over-handle", Boolean(over));
    this.showHint();
    this.redraw();
  }

  // The handle under the pointer: its knobs first, then its line.
  handleAt(event) {
    const place = this.place(this.store.selected);
    if (!place) return null;
    const [x, y] = this.at(event);
    const near = NEAR_PIXELS[event.pointerType] ?? NEAR_PIXELS.mouse;
    let [best, least] = [null, near];
    for (const name of Object.keys(HANDLES)) {
      const { points, ends } = curvePoints(name, place, this.options.ranges[name]);
      const far = Math.min(...ends.map((end) => distanceTo(x, y, [this.project(end)]) - 5), distanceTo(x, y, points.map(this.project)));
      if (far < least) [best, least] = [name, far];
    }
    return best;
  }

  wheel(event) {
    if (!this.element.matches(":focus-within")) return; // the page scrolls
    event.preventDefault();
    this.look({ distance: Math.min(200, Math.max(1, this.view.distance * Math.exp(0.001 * event.deltaY))) });
  }

  // ---------------------------------------------------------------------------------------------------------- keyboard

  pressOnCamera(event, index) {
    const place = this.place(index);
    const values = place && keyPull(event, place, this.options.ranges);
    if (!values) return;
    event.preventDefault();
    event.stopPropagation();
    this.set(index, values, `key ${index}`);
    this.redraw(event);
  }

  pressKey(event) {
    if (event.key === "Escape") return document.activeElement?.blur();
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const { azimuth, elevation, distance } = this.view;
    const views = {
      ArrowLeft: { azimuth: azimuth - 5 }, ArrowRight: { azimuth: azimuth + 5 },
      ArrowUp: { elevation: elevation + 5 }, ArrowDown: { elevation: elevation - 5 },
      "+": { distance: distance / 1.15 }, "=": { distance: distance / 1.15 }, "-": { distance: distance * 1.15 },
    };
    if (!views[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    this.look(views[event.key]);
  }

  set(index, values, gesture) {
    const named = Object.entries(values).map(([name, value]) => [PLACE.find((key) => key.startsWith(name)), value]);
    this.store.move(index, Object.fromEntries(named), gesture);
  }
}

// From a point of the picture to a polyline in it, in pixels.
function distanceTo(x, y, line) {
  let least = Math.hypot(line[0][0] - x, line[0][1] - y);
  for (let i = 1; i < line.length; i++) {
    const [[ax, ay], [bx, by]] = [line[i - 1], line[i]];
    const [dx, dy] = [bx - ax, by - ay];
    const t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    least = Math.min(least, Math.hypot(ax + t * dx - x, ay + t * dy - y));
  }
  return least;
}
