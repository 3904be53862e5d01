// The rig that is edited: one JSON document (syncam.rig_formats.to_document), the selected camera, undo and redo.
// Every edit makes a new document; who shows it subscribes.

import { isOrbit, keyTimes, placeAt, startOf } from "./geometry.js";

const MOST_STEPS = 50;
export const PLACE = ["distance_m", "elevation_deg", "azimuth_deg"];

// The same direction from -180 to 180 degrees; both ends are as they are given.
export const turned = (azimuth) => (Math.abs(azimuth) <= 180 ? azimuth : ((((azimuth + 180) % 360) + 360) % 360) - 180);

const rounded = (values) => Object.fromEntries(PLACE.map((key, i) => [key, Number(values[i].toFixed(3)) || 0]));

// The camera standing still where it is at a time.
export const still = (entry, time = 0) => rounded("keyframes" in entry && entry.keyframes.every(isOrbit) ? placeAt(entry, time) : startOf(entry));

export function mirrored(entry) {
  if (isOrbit(entry)) return { ...entry, azimuth_deg: -entry.azimuth_deg || 0 };
  if ("keyframes" in entry) return { ...entry, keyframes: entry.keyframes.map(mirrored) };
  const place = still(entry);
  return { ...place, azimuth_deg: -place.azimuth_deg || 0 };
}

export class RigStore {
  constructor(rig, maxViews) {
    this.maxViews = maxViews;
    this.state = { rig, pool: null, picked: [], source: null, selected: 0 };
    this.time = 0; // where the player and the timeline are, 0 to 1
    this.past = [];
    this.future = [];
    this.gesture = "";
    this.listeners = [];
  }

  get rig() { return this.state.rig; }
  get cameras() { return this.state.rig.cameras; }
  get selected() { return this.state.selected; }
  get camera() { return this.cameras[this.selected]; }
  get pool() { return this.state.pool; }
  get picked() { return this.state.picked; }
  // The file that the cameras were imported from: {document, as}, as "stills" or "path" until they are edited, else null.
  get source() { return this.state.source; }
  get isFull() { return this.cameras.length >= this.maxViews; }

  // what: "rig", "selection" or "time", whichever has changed.
  subscribe(listener) { this.listeners.push(listener); }
  tell(what) { for (const listener of this.listeners) listener(what); }

  select(index) {
    if (index === this.selected || index >= this.cameras.length) return;
    this.state = { ...this.state, selected: index };
    this.tell("selection");
  }

  setTime(time) {
    if (time === this.time) return;
    this.time = time;
    this.tell("time");
  }

  // `gesture` names a drag or a run of key presses: all its changes are one step to undo.
  change(cameras, { title, description, pool = null, picked = [], source, selected = this.selected, gesture = "" } = {}) {
    if (!gesture || gesture !== this.gesture) this.past = [...this.past.slice(1 - MOST_STEPS), this.state];
    this.gesture = gesture;
    this.future = [];
    const { title: _, description: __, rings: ___, ...common } = this.rig;
    const rig = { ...common, ...(title && { title }), ...(description && { description }), cameras };
    source ??= this.source && { ...this.source, as: null };
    this.state = { rig, pool, picked, source: source || null, selected: Math.min(selected, cameras.length - 1) };
    this.tell("rig");
  }

  endGesture() { this.gesture = ""; }

  replace(index, entry, gesture = "") {
    this.change(this.cameras.map((old, i) => (i === index ? entry : old)), { gesture });
  }

  // Moves a camera: `values` holds some of its three numbers. A camera with keys gets them at the moment that is shown.
  move(index, values, gesture = "") {
    const entry = this.cameras[index];
    if (isOrbit(entry)) return this.replace(index, { ...entry, ...values }, gesture);
    this.beforeKey?.();
    this.replace(index, withKey(entry, this.time, { ...rounded(placeAt(entry, this.time)), ...values }), gesture);
  }

  add(entry, after) {
    if (this.isFull) return;
    const cameras = [...this.cameras.slice(0, after + 1), entry, ...this.cameras.slice(after + 1)];
    this.change(cameras, { selected: after + 1 });
  }

  addNext() {
    const last = still(this.cameras.at(-1));
    this.add({ ...last, azimuth_deg: turned(last.azimuth_deg + 20) }, this.cameras.length - 1);
  }

  remove(index) {
    if (this.cameras.length > 1) this.change(this.cameras.filter((_, i) => i !== index));
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }
  step(from, to) {
    if (!from.length) return;
    to.push(this.state);
    this.state = from.pop();
    this.gesture = "";
    this.tell("rig");
  }

  // A preset or a file. With more cameras than fit, four of them, evenly spread, and a picker for others.
  open(document) {
    const { cameras, title, description } = document;
    const source = document.note ? { document, as: "stills" } : false;
    if (cameras.length <= this.maxViews) return this.change(cameras, { title, description, source });
    this.pick([0, 1, 2, 3].map((i) => Math.floor((i * cameras.length) / 4)), document, source);
  }

  // The file's poses as those of one camera that moves.
  openPath(document) {
    this.change([document.path], { source: { document, as: "path" } });
  }

  pick(numbers, pool = this.pool, source = this.source ?? false) {
    if (!numbers.length || numbers.length > this.maxViews) return;
    const picked = [...numbers].sort((a, b) => a - b);
    this.change(picked.map((number) => pool.cameras[number]), { pool, picked, source });
  }
}

// ----------------------------------------------------------------------------------------------------- keys of a path

const SAME_MOMENT = 1e-3;

// Keys with their own times, as an entry holds them.
export const keysOf = (entry) => entry.keyframes.map((key, i) => ({ ...key, time: keyTimes(entry)[i] }));

// The camera with a key at a time: a new one, or the one that is there already, moved.
export function withKey(entry, time, place = still(entry, time)) {
  const at = Number(time.toFixed(4));
  if (!("keyframes" in entry)) {
    const { label, intrinsics } = entry;
    const times = at > SAME_MOMENT ? [0, at] : [0, 1];
    const keyframes = times.map((moment) => ({ ...place, time: moment }));
    return { keyframes, easing: "smooth", ...(label && { label }), ...(intrinsics && { intrinsics }) };
  }
  const keys = keysOf(entry);
  const there = keys.findIndex((key) => Math.abs(key.time - at) < SAME_MOMENT);
  if (there >= 0) keys[there] = { ...keys[there], ...place };
  else keys.push({ ...place, time: at });
  return { ...entry, keyframes: keys.sort((a, b) => a.time - b.time) };
}
