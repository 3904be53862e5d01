// The cameras seen from above, without 3D: the front is below, a camera's azimuth grows to the right of it, as in the
// view from above. Each camera's number is dragged over the ground; its elevation stays, and is in the sliders.

import { make, wearColour } from "./dom.js";
import { farthestOf, groundRings, isAimed, pathOf, pictureCorners, placeAt, poseAt } from "./geometry.js";
import { keyPull } from "./rig_handles.js";
import { PLACE } from "./rig_store.js";

const svgNode = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
const MARGIN = 1.18; // of the outermost ring: room for the numbers

export class FlatDial {
  constructor(store, options) {
    Object.assign(this, { store, options });
    this.svg = svgNode("svg", { viewBox: "-1 -1 2 2", "aria-hidden": "true" });
    this.spots = Array.from({ length: store.maxViews }, (_, index) => this.makeSpot(index));
    this.element = make("div", { class: "syn-dial", role: "group", "aria-label": "cameras around the scene from above, its front below" }, this.svg, ...this.spots);
    store.subscribe(() => this.element.isConnected && this.show());
  }

  makeSpot(index) {
    const { store } = this;
    const spot = make("button", { type: "button", class: "syn-spot", onfocus: () => store.select(index), onblur: () => store.endGesture() }, String(index + 1));
    wearColour(spot, this.options.colours, index);
    spot.addEventListener("pointerdown", (event) => this.take(event, spot, index));
    spot.addEventListener("keydown", (event) => {
      const place = this.place(index);
      const values = place && keyPull(event, place, this.options.ranges);
      if (!values) return;
      event.preventDefault();
      event.stopPropagation();
      this.set(index, values, `key ${index}`);
    });
    return spot;
  }

  place(index) {
    const entry = this.store.cameras[index];
    return entry && isAimed(entry) ? placeAt(entry, this.store.time) : null;
  }

  set(index, values, gesture) {
    const named = Object.entries(values).map(([name, value]) => [PLACE.find((key) => key.startsWith(name)), value]);
    this.store.move(index, Object.fromEntries(named), gesture);
  }

  // The world is turned so that its x points down and its y to the right; its scale stays as it is while a hand drags.
  show() {
    const { store, options } = this;
    this.scale ??= 1;
    const radii = groundRings(farthestOf(store.cameras, store.time));
    if (!this.dragging) this.scale = 1 / (radii.at(-1) * MARGIN);
    const at = ([x, y]) => [y * this.scale, x * this.scale];
    const parts = radii.flatMap((radius) => {
      const label = svgNode("text", { x: -0.5 * radius * this.scale, y: -0.866 * radius * this.scale });
      label.textContent = `${radius} m`;
      return [svgNode("circle", { r: radius * this.scale, class: "ring" }), label];
    });
    const figure = [[0.8, 0], [0.3, 0.22], [-0.6, 0.22], [-0.6, -0.22], [0.3, -0.22]].map(at);
    parts.push(svgNode("polygon", { points: figure.join(" "), class: "subject" }));
    const front = svgNode("text", { x: 0, y: 1.55 * this.scale, class: "front" });
    front.textContent = "front";
    parts.push(front);
    store.cameras.forEach((entry, index) => parts.push(...this.drawCamera(entry, index, at)));
    this.svg.replaceChildren(...parts);
    this.spots.forEach((spot, index) => this.placeSpot(spot, index, at));
    options.onDrawn?.();
    this.onDrawn?.();
  }

  drawCamera(entry, index, at) {
    const pose = poseAt(entry, this.store.time);
    const [left, right] = pictureCorners(entry.intrinsics ?? { width: 1, height: 1, cx: 0.5, cy: 0.5, fx: 1, fy: 1 });
    const reach = 0.16 / this.scale;
    const corner = ([u]) => at(pose.position.map((value, axis) => value + reach * (pose.forward[axis] + u * pose.right[axis])));
    const colour = this.options.colours[index % this.options.colours.length];
    const path = pathOf(entry);
    return [
      svgNode("polygon", { points: [at(pose.position), corner(left), corner(right)].join(" "), class: "wedge", stroke: colour, fill: colour }),
      ...(path.length ? [svgNode("polyline", { points: path.map(at).join(" "), class: "path", stroke: colour })] : []),
    ];
  }

  placeSpot(spot, index, at) {
    const entry = this.store.cameras[index];
    spot.hidden = !entry;
    if (!entry) return;
    const [x, y] = at(poseAt(entry, this.store.time).position);
    spot.style.left = `${50 + 50 * x}%`;
    spot.style.top = `${50 + 50 * y}%`;
    spot.setAttribute("aria-pressed", index === this.store.selected);
    const place = this.place(index);
    spot.setAttribute("aria-label", `camera ${index + 1}${place ? `: ${place[0].toFixed(2)} m away, ${place[2].toFixed(0)}° to the right of the front` : ""}`);
  }

  take(event, spot, index) {
    const place = this.place(index);
    this.store.select(index);
    if (!place || event.button !== 0) return;
    spot.setPointerCapture(event.pointerId);
    this.store.endGesture();
    this.dragging = true;
    this.onDrag?.(index);
    const box = this.svg.getBoundingClientRect();
    const world = (e) => [(2 * (e.clientY - box.top)) / box.height - 1, (2 * (e.clientX - box.left)) / box.width - 1].map((v) => v / this.scale);
    const flat = Math.max(0.2, Math.cos((place[1] * Math.PI) / 180)); // what of the distance is seen from above
    const [low, high] = this.options.ranges.distance;
    const move = (e) => {
      const [x, y] = world(e);
      const [snapDistance, snapAngle] = e.shiftKey ? [0.5, 15] : [0.01, 0.1];
      const azimuth = (Math.atan2(y, x) * 180) / Math.PI;
      const nearby = azimuth + 360 * Math.round((place[2] - azimuth) / 360);
      const snapped = (value, step) => Number((Math.round(value / step) * step).toFixed(2));
      const distance = Math.min(high, Math.max(low, Math.hypot(x, y) / flat));
      this.set(index, { distance: snapped(distance, snapDistance), azimuth: snapped(nearby, snapAngle) }, `dial ${index}`);
    };
    const end = () => {
      spot.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) spot.removeEventListener(name, end);
      this.dragging = false;
      this.store.endGesture();
      this.onDrag?.(null);
      this.show();
    };
    spot.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) spot.addEventListener(name, end);
  }
}
