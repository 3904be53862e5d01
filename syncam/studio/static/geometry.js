// Cameras in the page: the same drawing as syncam/preview.py, so that a slider moves its frustum without asking the
// server. tests/test_page.py compares every coordinate with the Python figure. Metres, degrees, OpenCV camera axes.
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

export function poseAt(entry, time) {
  if (isOrbit(entry)) return lookAtCentre(...placeOf(entry));
  if ("keyframes" in entry) {
    const [keys, knots] = [entry.keyframes, keyTimes(entry)];
    const { start, share } = between(knots, time);
    const weight = EASINGS[keys[start].easing ?? entry.easing ?? "linear"](share);
    if (keys.every(isOrbit)) {
      const places = keys.map(placeOf);
      return lookAtCentre(...places[start].map((value, i) => (1 - weight) * value + weight * places[start + 1][i]));
    }
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

// Polylines as three columns with a null between them, where the pen is lifted.
export function columns(strokes) {
  const points = strokes.flatMap((stroke, i) => (i ? [[null, null, null], ...stroke] : stroke));
  return { x: points.map((p) => p[0]), y: points.map((p) => p[1]), z: points.map((p) => p[2]) };
}

export const textAt = (total, texts) => Array.from({ length: total }, (_, i) => texts[i] ?? "");

export function groundColumns(farthest) {
  let step = 10 ** Math.floor(Math.log10(Math.max(farthest, 1e-3)));
  step = [step / 5, step / 2, step, 2 * step].find((s) => farthest / s <= 5 + 1e-9);
  const rings = Math.max(1, Math.ceil(farthest / step - 1e-9));
  const strokes = [];
  const texts = {};
  for (let ring = 0; ring < rings; ring++) {
    const radius = step * (ring + 1);
    texts[ring * 98] = `${Number(radius.toPrecision(6))} m`;
    strokes.push(
      Array.from({ length: 97 }, (_, i) => {
        const angle = (2 * Math.PI * ((i + 56) % 96)) / 96;
        return [radius * Math.cos(angle), radius * Math.sin(angle), 0];
      }),
    );
  }
  const points = columns(strokes);
  return { ...points, text: textAt(points.x.length, texts) };
}

export function subjectColumns(size) {
  const tip = 4 * size;
  const arrow = [[0, 0, 0], [tip, 0, 0], [tip - size, size / 2, 0], [tip, 0, 0], [tip - size, -size / 2, 0]];
  const axes = [0, 1, 2].map((axis) => [-size, size].map((s) => [0, 1, 2].map((i) => (i === axis ? s : 0))));
  const points = columns([...axes, arrow, [[tip + size, 0, 0]]]);
  return { ...points, text: textAt(points.x.length, { [points.x.length - 1]: "front" }) };
}

export function frustumColumns(entry, pose, lens, depth, path) {
  const { width: w, height: h } = lens;
  const pixels = [[0, 0], [w, 0], [w, h], [0, h], [w / 2, -0.25 * h]];
  const [topLeft, topRight, bottomRight, bottomLeft, roof] = pixels.map(([u, v]) => {
    let point = add(pose.position, pose.forward, depth);
    point = add(point, pose.right, (depth * (u - lens.cx)) / lens.fx);
    return add(point, pose.down, (depth * (v - lens.cy)) / lens.fy);
  });
  const centre = pose.position;
  return columns([
    [centre, topLeft, topRight, bottomRight, bottomLeft, topLeft, roof, topRight, centre],
    [bottomRight, centre, bottomLeft],
    ...(path ? [path] : []),
  ]);
}

export const escapeHtml = (text) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" })[c]);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The traces of syncam.preview.rig_figure for these cameras at a time from 0 to 1. `style` holds one trace of each
// kind as Python draws it (ground, subject, frustum) and the cameras' colours: only coordinates are computed here.
export function rigTraces(cameras, defaultLens, style, time = 0) {
  const poses = cameras.map((entry) => poseAt(entry, time));
  const paths = cameras.map((entry) =>
    moves(entry) ? Array.from({ length: style.pathPoints }, (_, i) => poseAt(entry, i / (style.pathPoints - 1)).position) : null,
  );
  const distances = poses.map((pose) => length(pose.position));
  const farthest = Math.max(...distances, ...paths.flatMap((path) => (path ?? []).map(length)));
  const depth = 0.14 * Math.max(median(distances), 0.5);
  return [
    { ...style.ground, ...groundColumns(farthest) },
    { ...style.subject, ...subjectColumns(0.08 * Math.max(farthest, 1)) },
    ...cameras.map((entry, index) => {
      const points = frustumColumns(entry, poses[index], entry.intrinsics ?? defaultLens, depth, paths[index]);
      const colour = style.colours[index % style.colours.length];
      const title = `camera ${index + 1}${entry.label ? `: ${escapeHtml(entry.label)}` : ""}`;
      const [distance, elevation, azimuth] = startOf(entry);
      return {
        ...style.frustum,
        ...points,
        text: textAt(points.x.length, { 0: String(index + 1) }),
        line: { ...style.frustum.line, color: colour },
        textfont: { ...style.frustum.textfont, color: colour },
        name: title,
        meta: index + 1,
        hovertext: `${title}<br>${distance.toFixed(2)} m, elevation ${elevation.toFixed(1)}°, azimuth ${azimuth.toFixed(1)}°`,
      };
    }),
  ];
}
