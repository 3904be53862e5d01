// Where cameras stand and what they see, as syncam.cameras says it, so that the page need not ask the server while one
// is moved. tests/test_page.py compares what is drawn with the Python figure. Metres, degrees, OpenCV camera axes.
// A camera is an entry of a rig document: {distance_m, elevation_deg, azimuth_deg}, {c2w}, or {keyframes, easing} of either.

export const radians = (degrees) => (degrees * Math.PI) / 180;
export const degrees = (angle) => (angle * 180) / Math.PI;
export const add = (a, b, weight = 1) => a.map((value, axis) => value + weight * b[axis]);
export const length = (v) => Math.hypot(...v);

export function lookAtCentre(distance, elevation, azimuth) {
  const [el, az] = [radians(elevation), radians(((azimuth % 360) + 360) % 360)];
  const outward = [Math.cos(el) * Math.cos(az), Math.cos(el) * Math.sin(az), Math.sin(el)];
  const right = [-Math.sin(az), Math.cos(az), 0];
  const down = [
    outward[2] * right[1] - outward[1] * right[2],
    outward[0] * right[2] - outward[2] * right[0],
    outward[1] * right[0] - outward[0] * right[1],
  ];
  return { right, down, forward: outward.map((v) => -v), position: outward.map((v) => distance * v) };
}

export const placeOf = (entry) => [entry.distance_m, entry.elevation_deg, entry.azimuth_deg];
export const isOrbit = (entry) => "distance_m" in entry;
export const matricesOf = (entry) => (Array.isArray(entry.c2w[0][0]) ? entry.c2w : [entry.c2w]);

export function moves(entry) {
  if (isOrbit(entry)) return false;
  const stations = "keyframes" in entry ? entry.keyframes.map((key) => (isOrbit(key) ? placeOf(key) : key.c2w)) : matricesOf(entry);
  return stations.some((station) => JSON.stringify(station) !== JSON.stringify(stations[0]));
}

// Share of the time from one key to the next -> share of the way, as cameras.EASINGS.
export const EASINGS = {
  linear: (t) => t,
  smooth: (t) => t * t * (3 - 2 * t),
  "ease-in": (t) => t * t,
  "ease-out": (t) => t * (2 - t),
  hold: (t) => Math.floor(t),
};

export const columnsOf = (matrix) => [0, 1, 2, 3].map((column) => matrix.slice(0, 3).map((row) => row[column]));
export const poseOf = (matrix) => {
  const [right, down, forward, position] = columnsOf(matrix);
  return { right, down, forward, position };
};
export const matrixOf = ({ right, down, forward, position }) => [0, 1, 2].map((i) => [right[i], down[i], forward[i], position[i]]);

// When a moving camera passes its keys: their own times, else evenly spaced.
export function keyTimes(entry) {
  const keys = entry.keyframes;
  return keys.map((key, i) => key.time ?? i / (keys.length - 1));
}

// The knot before a time, and how far it is to the next one, 0 to 1.
export function between(knots, time) {
  const t = Math.min(Math.max(time, knots[0]), knots[knots.length - 1]);
  let start = 0;
  while (start < knots.length - 2 && knots[start + 1] <= t) start += 1;
  return { start, share: (t - knots[start]) / (knots[start + 1] - knots[start]) };
}

// Slopes of parabolas through three neighbours, at the ends of those through the outer three.
export function slopeAt(points, knots, i) {
  const n = knots.length;
  const rise = (j) => points[j + 1].map((value, axis) => (value - points[j][axis]) / (knots[j + 1] - knots[j]));
  if (n === 2) return rise(0);
  const j = Math.min(Math.max(i, 1), n - 2); // the middle one of the three
  const [before, after] = [knots[j] - knots[j - 1], knots[j + 1] - knots[j]];
  const [first, second] = [rise(j - 1), rise(j)];
  const bend = second.map((value, axis) => (value - first[axis]) / (before + after));
  if (i < j) return add(first, bend, -before);
  if (i > j) return add(second, bend, after);
  return add(first, bend, before);
}

// cameras.interpolate_poses for one time: positions on a cubic spline, rotations by slerp.
export function poseBetween(matrices, knots, time) {
  const { start, share } = between(knots, time);
  if (share <= 0) return poseOf(matrices[start]);
  if (share >= 1) return poseOf(matrices[start + 1]);
  const positions = matrices.map((matrix) => columnsOf(matrix)[3]);
  const gap = knots[start + 1] - knots[start];
  const [from, to] = [slopeAt(positions, knots, start), slopeAt(positions, knots, start + 1)];
  const position = positions[start].map(
    (value, axis) =>
      (1 + 2 * share) * (1 - share) ** 2 * value +
      share ** 2 * (3 - 2 * share) * positions[start + 1][axis] +
      share * (1 - share) * gap * ((1 - share) * from[axis] - share * to[axis]),
  );
  // Slerp as a turn by a share of the angle around the axis of first^T last (Rodrigues).
  const [first, last] = [matrices[start], matrices[start + 1]].map((matrix) => columnsOf(matrix).slice(0, 3));
  const dot = (u, v) => u.reduce((sum, value, i) => sum + value * v[i], 0);
  const turn = first.map((u) => last.map((v) => dot(u, v))); // its rows and columns in the first camera's axes
  const cosine = Math.min(1, Math.max(-1, (turn[0][0] + turn[1][1] + turn[2][2] - 1) / 2));
  const skew = [turn[2][1] - turn[1][2], turn[0][2] - turn[2][0], turn[1][0] - turn[0][1]];
  const angle = Math.atan2(length(skew) / 2, cosine);
  if (angle < 1e-9) return { ...poseOf(matrices[start]), position };
  let axis = skew.map((value) => value / length(skew));
  if (length(skew) < 1e-7) { // half a turn: the axis is the largest column of turn + 1
    const ones = turn.map((row, i) => row.map((value, j) => value + (i === j)));
    const largest = [0, 1, 2].reduce((best, i) => (ones[i][i] > ones[best][best] ? i : best), 0);
    axis = ones.map((row) => row[largest]);
    axis = axis.map((value) => value / length(axis));
  }
  const [sine, rest] = [Math.sin(share * angle), 1 - Math.cos(share * angle)];
  const cross = [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]];
  const step = cross.map((row, i) =>
    row.map((value, j) => (i === j) + sine * value + rest * (axis[i] * axis[j] - (i === j))),
  );
  const [right, down, forward] = [0, 1, 2].map((column) =>
    [0, 1, 2].map((i) => dot([first[0][i], first[1][i], first[2][i]], step.map((row) => row[column]))),
  );
  return { right, down, forward, position };
}

// The key before a time, and how much of the way to the next one a moving camera has gone by then, 0 to 1.
function along(entry, time) {
  const { start, share } = between(keyTimes(entry), time);
  return { start, weight: EASINGS[entry.keyframes[start].easing ?? entry.easing ?? "linear"](share) };
}

// Whether a camera always looks at the centre, so that three numbers say where it is.
export const isAimed = (entry) => isOrbit(entry) || ("keyframes" in entry && entry.keyframes.every(isOrbit));

// The three numbers of such a camera at a time.
export function placeAt(entry, time) {
  if (isOrbit(entry)) return placeOf(entry);
  const { start, weight } = along(entry, time);
  const [from, to] = [entry.keyframes[start], entry.keyframes[start + 1]].map(placeOf);
  return from.map((value, i) => (1 - weight) * value + weight * to[i]);
}

export function poseAt(entry, time) {
  if (isAimed(entry)) return lookAtCentre(...placeAt(entry, time));
  if ("keyframes" in entry) {
    const [keys, knots] = [entry.keyframes, keyTimes(entry)];
    const { start, weight } = along(entry, time);
    const matrices = keys.map((key) => matrixOf(poseAt(key, 0)));
    return poseBetween(matrices, knots, weight < 1 ? knots[start] + weight * (knots[start + 1] - knots[start]) : knots[start + 1]);
  }
  const matrices = matricesOf(entry);
  if (matrices.length === 1) return poseOf(matrices[0]);
  return poseBetween(matrices, entry.times ?? matrices.map((_, i) => i / (matrices.length - 1)), time);
}

// Where a camera starts, as the three numbers of a row.
export function startOf(entry) {
  if (isOrbit(entry)) return placeOf(entry);
  if ("keyframes" in entry) return startOf(entry.keyframes[0]);
  const [x, y, z] = poseAt(entry, 0).position;
  const distance = Math.hypot(x, y, z);
  return [distance, distance ? degrees(Math.asin(z / distance)) : 0, degrees(Math.atan2(y, x))];
}

// A camera's picture at a depth of one metre in its own axes: the corners from the top left, clockwise, and the middle
// of the roof that marks its upper side.
export function pictureCorners(lens) {
  const { width: w, height: h } = lens;
  const pixels = [[0, 0], [w, 0], [w, h], [0, h], [w / 2, -0.25 * h]];
  return pixels.map(([u, v]) => [(u - lens.cx) / lens.fx, (v - lens.cy) / lens.fy, 1]);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// How long the cameras are drawn, in metres, for these poses.
export const drawnDepth = (poses) => 0.14 * Math.max(median(poses.map((pose) => length(pose.position))), 0.5);

export const NUM_PATH_POINTS = 33;
export const pathOf = (entry) =>
  moves(entry) ? Array.from({ length: NUM_PATH_POINTS }, (_, i) => poseAt(entry, i / (NUM_PATH_POINTS - 1)).position) : [];

// How far from the centre any of the cameras ever is.
export const farthestOf = (cameras, time) =>
  Math.max(...cameras.flatMap((entry) => [poseAt(entry, time).position, ...pathOf(entry)]).map(length));

// Radii of rings on the ground, round numbers, at most five of them.
export function groundRings(farthest) {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(farthest, 1e-3)));
  const step = [magnitude / 5, magnitude / 2, magnitude, 2 * magnitude].find((s) => farthest / s <= 5 + 1e-9);
  const count = Math.max(1, Math.ceil(farthest / step - 1e-9));
  return Array.from({ length: count }, (_, i) => Number((step * (i + 1)).toPrecision(6)));
}
