// How the selected camera is pulled: a ring for its azimuth, an arc for its elevation, a stem for its distance, and the
// camera itself over its sphere. What the pointer means is found in the picture: the point of a curve that is nearest
// to it there, which works from every side. A place is [distance_m, elevation_deg, azimuth_deg].

import { lookAtCentre } from "./geometry.js";

export const HANDLES = { azimuth: "around the subject", elevation: "up and down", distance: "closer and farther" };
const AXIS = { distance: 0, elevation: 1, azimuth: 2 };
const SNAP = { distance: 0.5, elevation: 15, azimuth: 15 }; // with Shift
const STEP = { distance: 0.01, elevation: 0.1, azimuth: 0.1 };
const REACH = { distance: 4, elevation: 35, azimuth: 50 }; // how far one movement of the pointer can take it
const KNOB_ANGLE_DEG = 13; // between the camera and the knobs beside it
const ARC_DEG = 40; // how much of the elevation's arc is drawn to each side

const pointAt = (place) => lookAtCentre(...place).position;
const withValue = (place, name, value) => place.map((old, i) => (i === AXIS[name] ? value : old));
const spread = (low, high, count) => Array.from({ length: count + 1 }, (_, i) => low + ((high - low) * i) / count);

// The curve of a handle as points, and where its two knobs are.
export function curvePoints(name, place, [low, high]) {
  const value = place[AXIS[name]];
  const at = (other) => pointAt(withValue(place, name, other));
  if (name === "azimuth") return { points: spread(0, 360, 96).map(at), ends: [at(value - KNOB_ANGLE_DEG), at(value + KNOB_ANGLE_DEG)] };
  const [from, to] = [Math.max(low, value - ARC_DEG), Math.min(high, value + ARC_DEG)];
  if (name === "elevation") return { points: spread(from, to, 32).map(at), ends: [at(value - KNOB_ANGLE_DEG), at(value + KNOB_ANGLE_DEG)] };
  const out = value + 0.25 * Math.max(2, value);
  return { points: [[0, 0, 0], at(out)], ends: [at(value * 0.72), at(out)] };
}

function rounded(name, value, snap) {
  const step = (snap ? SNAP : STEP)[name];
  return Number((Math.round(value / step) * step).toFixed(2));
}

const clamped = (value, [low, high]) => Math.min(high, Math.max(low, value));

// The value near `start` whose point on the curve is nearest to the pointer in the picture.
function nearestValue(name, place, start, pointer, project) {
  let [centre, span] = [start, REACH[name]];
  for (let round = 0; round < 3; round++) {
    let [best, least] = [centre, Infinity];
    for (const value of spread(centre - span, centre + span, 24)) {
      if (name === "distance" && value <= 0.05) continue;
      const [x, y] = project(pointAt(withValue(place, name, value)));
      const far = Math.hypot(x - pointer[0], y - pointer[1]) + 1e-4 * Math.abs(value - start); // ties: the nearer value
      if (far < least) [best, least] = [value, far];
    }
    [centre, span] = [best, span / 12];
  }
  return centre;
}

// Begins to pull a handle: returns what each further place of the pointer makes of the camera's numbers.
export function pull(name, place, pointer, project, ranges) {
  const began = nearestValue(name, place, place[AXIS[name]], pointer, project);
  let last = began;
  return (now, snap) => {
    last = nearestValue(name, place, last, now, project);
    const old = place[AXIS[name]];
    const value = name === "distance" ? (old * last) / began : old + last - began;
    const limited = name === "azimuth" ? value : clamped(value, ranges[name]);
    return { [name]: rounded(name, limited, snap) };
  };
}

// Begins to drag the camera itself over its sphere. Past the sphere's outline and back in, it has gone around to the
// other side. `ray(pointer)` is the onlooker's line of sight: {origin, direction}.
export function pullOverSphere(place, pointer, project, ray, ranges) {
  const [distance] = place;
  const centre = project(pointAt(place));
  const offset = [centre[0] - pointer[0], centre[1] - pointer[1]]; // between the camera and where it was taken
  const meet = (at) => {
    const { origin, direction } = ray([at[0] + offset[0], at[1] + offset[1]]);
    const toward = -direction.reduce((sum, d, i) => sum + d * origin[i], 0); // along the ray, next to the centre
    const nearest = origin.map((o, i) => o + toward * direction[i]);
    const missedBy = Math.hypot(...nearest);
    if (missedBy >= distance) return { points: [nearest.map((v) => (v * distance) / missedBy)] };
    const half = Math.sqrt(distance ** 2 - missedBy ** 2);
    return { points: [toward - half, toward + half].map((t) => origin.map((o, i) => o + t * direction[i])) };
  };
  const start = pointAt(place);
  const gap = (point) => Math.hypot(...point.map((v, i) => v - start[i]));
  const { points } = meet(pointer);
  let side = points.length > 1 && gap(points[1]) < gap(points[0]) ? 1 : 0;
  let isPast = false;
  return (now, snap) => {
    const found = meet(now).points;
    if (isPast && found.length > 1) side = 1 - side;
    isPast = found.length === 1;
    const [x, y, z] = found[isPast ? 0 : side];
    const elevation = clamped((Math.asin(Math.min(1, Math.max(-1, z / distance))) * 180) / Math.PI, ranges.elevation);
    const azimuth = (Math.atan2(y, x) * 180) / Math.PI;
    const nearby = azimuth + 360 * Math.round((place[2] - azimuth) / 360); // without a jump of a whole turn
    return { elevation: rounded("elevation", elevation, snap), azimuth: rounded("azimuth", nearby, snap) };
  };
}

// What a key does to a place, or null. Shift makes it coarse.
const KEYS = {
  ArrowLeft: ["azimuth", -1], ArrowRight: ["azimuth", 1], ArrowUp: ["elevation", 1], ArrowDown: ["elevation", -1],
  PageUp: ["distance", 1], PageDown: ["distance", -1],
};
const KEY_STEP = { distance: 0.1, elevation: 1, azimuth: 1 };

export function keyPull(event, place, ranges) {
  const [name, sign] = KEYS[event.key] ?? [];
  if (!name || event.ctrlKey || event.metaKey || event.altKey) return null;
  const step = (event.shiftKey ? SNAP : KEY_STEP)[name];
  const value = place[AXIS[name]] + sign * step;
  const limited = name === "azimuth" ? value : clamped(value, ranges[name]);
  return { [name]: rounded(name, limited, event.shiftKey) };
}
