// The camera desk: presets, one row per camera, and the 3D view. The rig is one JSON document
// (syncam.rig_formats.to_document); every edit makes a new one.

import { button, download, fileUrl, icon, make, studio } from "./dom.js";
import { degrees, add, length, isOrbit, matricesOf, moves, poseAt, startOf, columns, rigTraces } from "./geometry.js";

export function mount({ element, trigger, props, server, watch }) {
const MAX_VIEWS = props.maxViews;
const FIELDS = [
  { key: "distance_m", name: "distance", unit: "m", step: 0.1, digits: 2 },
  { key: "elevation_deg", name: "elevation", unit: "°", step: 1, digits: 1 },
  { key: "azimuth_deg", name: "azimuth", unit: "°", step: 1, digits: 1 },
];

let rig = props.value;
let pool = null; // the cameras of a file that has more than fit into a rig: up to eight of them are picked
let picked = [];
let selected = 0;
let past = [];

// ------------------------------------------------------------------------------------------------- editing the rig

function change(cameras, { title, description, from = null, numbers = [] } = {}) {
  past = [...past.slice(-49), { rig, pool, picked }];
  editing = "";
  const { title: _, description: __, rings: ___, ...common } = rig;
  rig = { ...common, ...(title && { title }), ...(description && { description }), cameras };
  [pool, picked] = [from, numbers];
  selected = Math.min(selected, cameras.length - 1);
  show();
}

let editing = ""; // one drag of one slider is one step to undo
function edit(index, key, value) {
  const before = past;
  const same = editing === `${index} ${key}`;
  change(rig.cameras.map((entry, i) => (i === index ? { ...entry, [key]: value } : entry)));
  if (same) past = before;
  editing = `${index} ${key}`;
}

// The same direction from -180 to 180 degrees; both ends are as they are given.
const turned = (azimuth) => (Math.abs(azimuth) <= 180 ? azimuth : ((((azimuth + 180) % 360) + 360) % 360) - 180);
const still = (entry) => {
  const [distance_m, elevation_deg, azimuth_deg] = startOf(entry).map((v) => Number(v.toFixed(3)));
  return { distance_m, elevation_deg, azimuth_deg };
};

function addCamera(entry, after) {
  if (rig.cameras.length >= MAX_VIEWS) return;
  selected = after + 1;
  change([...rig.cameras.slice(0, after + 1), entry, ...rig.cameras.slice(after + 1)]);
}

function nextCamera() {
  const last = still(rig.cameras.at(-1));
  return { ...last, azimuth_deg: turned(last.azimuth_deg + 20) };
}

function mirrored(entry) {
  if (isOrbit(entry)) return { ...entry, azimuth_deg: -entry.azimuth_deg || 0 };
  if ("keyframes" in entry) return { ...entry, keyframes: entry.keyframes.map(mirrored) };
  const place = still(entry);
  return { ...place, azimuth_deg: -place.azimuth_deg || 0 };
}

function undo() {
  const before = past.pop();
  if (!before) return;
  ({ rig, pool, picked } = before);
  selected = Math.min(selected, rig.cameras.length - 1);
  show();
}

// A preset or a file. With more cameras than fit, four of them, evenly spread, and a picker for others.
function open(fileDocument) {
  const { cameras, title, description } = fileDocument;
  if (cameras.length <= MAX_VIEWS) return change(cameras, { title, description });
  pick([0, 1, 2, 3].map((i) => Math.floor((i * cameras.length) / 4)), fileDocument);
}

function pick(numbers, from = pool) {
  if (!numbers.length || numbers.length > MAX_VIEWS) return;
  const inOrder = [...numbers].sort((a, b) => a - b);
  change(inOrder.map((number) => from.cameras[number]), { from, numbers: inOrder });
}

function moveRing(key, value) {
  pick(picked, { ...pool, cameras: pool.cameras.map((entry) => ({ ...entry, [key]: value })) });
}

// ---------------------------------------------------------------------------------------------------- building once

const presetChip = (preset) => {
  const chip = button(preset.title.replace(/, (\d+) cameras$/, " $1"), preset.description || preset.title, () => open(preset.document), "chip");
  chip.dataset.preset = preset.name;
  return chip;
};
const featured = make("div", { class: "syn-chips", role: "group", "aria-label": "camera presets" });
featured.append(...props.presets.filter((p) => p.featured).map(presetChip));
const more = make("details", { class: "syn-more" }, make("summary", {}, "More presets"));
more.append(make("div", { class: "syn-chips" }, ...props.presets.filter((p) => !p.featured).map(presetChip)));

const pickerTitle = make("span", {});
const pickerRings = make("span", { class: "syn-rings" });
const pickerChips = make("div", { class: "syn-picks" });
const picker = make("div", { class: "syn-picker", hidden: true }, pickerTitle, pickerRings, pickerChips);

const tabs = make("div", { class: "syn-tabs", role: "group", "aria-label": "camera to edit" });
const heads = make("div", { class: "syn-columns", "aria-hidden": "true" }, ...FIELDS.map((field) => make("span", {}, `${field.name}, ${field.unit}`)));
const rowList = make("div", { class: "syn-rows" });
const rows = Array.from({ length: MAX_VIEWS }, (_, index) => buildRow(index));
rowList.append(...rows.map((row) => row.node));
tabs.append(...rows.map((row) => row.tab));

function buildRow(index) {
  const colour = props.style.colours[index % props.style.colours.length];
  const number = index + 1;
  const badge = (label) =>
    make("button", { type: "button", class: "syn-badge", "aria-label": label, onclick: () => select(index) }, String(number));
  const row = { inputs: [], tab: badge(`edit camera ${number}`) };
  const fields = FIELDS.map((field, i) => {
    const [low, high] = props.ranges[field.key];
    const label = `camera ${number} ${field.name}`;
    const slider = make("input", {
      type: "range", min: low, max: high, step: field.step, "aria-label": label,
      oninput: () => edit(index, field.key, slider.valueAsNumber), onchange: () => { editing = ""; sync(); }, onfocus: () => select(index),
    });
    const box = make("input", {
      type: "number", min: low, max: high, step: field.step, "aria-label": `${label} in ${field.unit === "m" ? "metres" : "degrees"}`, onfocus: () => select(index),
      onchange: () => {
        // Sliders end where it makes sense to drag to; typed numbers may go on to where the model says no.
        if (Number.isFinite(box.valueAsNumber)) edit(index, field.key, box.valueAsNumber);
        else show();
        sync();
      },
    });
    row.inputs[i] = { slider, number: box };
    return make("label", { class: "syn-field" }, make("span", {}, `${field.name}, ${field.unit}`), slider, box);
  });
  row.kind = make("span", { class: "syn-kind" });
  row.freeze = button("make it still", `make camera ${number} stand still`, () => replace(index, still(rig.cameras[index])));
  row.path = make("div", { class: "syn-path" }, row.kind, row.freeze);
  row.orbit = make("div", { class: "syn-fields" }, ...fields);
  row.remove = button(icon("remove"), `remove camera ${number}`, () => change(rig.cameras.filter((_, i) => i !== index)));
  row.node = make("div", { class: "syn-row", role: "group", "aria-label": `camera ${number}` }, badge(`select camera ${number}`));
  row.node.append(row.orbit, row.path, row.remove);
  for (const node of [row.node, row.tab]) node.style.setProperty("--camera", colour);
  return row;
}

const replace = (index, entry) => change(rig.cameras.map((old, i) => (i === index ? entry : old)));

const addButton = button("+ camera", "add a camera", () => addCamera(nextCamera(), rig.cameras.length - 1));
const copyButton = button(icon("copy"), "duplicate the selected camera", () => addCamera(rig.cameras[selected], selected));
const mirrorButton = button(icon("mirror"), "mirror the selected camera to the other side", () => replace(selected, mirrored(rig.cameras[selected])));
const undoButton = button("undo", "undo the last change of the cameras", undo);
const formatSelect = make(
  "select",
  { "aria-label": "export cameras as", onchange: () => exportRig(formatSelect.value) },
  make("option", { value: "" }, "export…"),
  ...props.formats.map((format) => make("option", { value: format }, format)),
);
const rowTools = make("div", { class: "syn-tools" }, addButton, copyButton, mirrorButton, undoButton, formatSelect);
const reference = make("p", { class: "syn-note" }, "Camera 1 is the reference: this model sees only where the others stand relative to it.");

const plot = make("div", { class: "syn-plot", role: "img", "aria-label": "the cameras around the scene in 3D" });
const overlay = make("canvas", { class: "syn-overlay", "aria-hidden": "true" });
const fromButton = button("", "look from the selected camera", () => lookFrom(fromSelected()));
const viewTools = make(
  "div",
  { class: "syn-viewtools" },
  button("reset", "reset the 3D view", () => lookFrom(firstLook(), false)),
  button("top", "look from above", () => lookFrom({ eye: { x: -0.001, y: 0, z: farEnough() }, up: { x: -1, y: 0, z: 0 } })),
  fromButton,
);
element.append(
  make("div", { class: "syn-presets" }, featured, more, picker),
  make("div", { class: "syn-desk" }, make("div", {}, tabs, heads, rowList, rowTools, reference), make("div", { class: "syn-stage3d" }, plot, overlay, viewTools)),
);

// ---------------------------------------------------------------------------------------------------------- showing

function select(index) {
  selected = index;
  showRows();
  draw();
}

// What the model has seen is the darker part of each slider.
function showModel() {
  for (const row of rows)
    FIELDS.forEach((field, i) => {
      const [low, high] = props.ranges[field.key];
      const [from, to] = props.trained[field.key] ?? [low, low];
      const at = (value) => `${(100 * (Math.min(Math.max(value, low), high) - low)) / (high - low)}%`;
      row.inputs[i].slider.style.setProperty("--from", at(from));
      row.inputs[i].slider.style.setProperty("--to", at(to));
    });
  reference.hidden = !props.relative;
}

function showRows() {
  rows.forEach((row, index) => {
    const entry = rig.cameras[index];
    row.node.hidden = row.tab.hidden = !entry;
    row.node.classList.toggle("selected", index === selected);
    row.tab.classList.toggle("selected", index === selected);
    if (!entry) return;
    row.orbit.hidden = !isOrbit(entry);
    row.path.hidden = isOrbit(entry);
    row.remove.disabled = rig.cameras.length === 1;
    if (isOrbit(entry)) {
      FIELDS.forEach((field, i) => {
        const { slider, number } = row.inputs[i];
        slider.value = field.key === "azimuth_deg" ? turned(entry[field.key]) : entry[field.key]; // 270 is at -90
        number.value = Number(entry[field.key].toFixed(field.digits));
      });
    } else {
      const stations = "keyframes" in entry ? entry.keyframes.length : matricesOf(entry).length;
      const kind = "keyframes" in entry ? "moves through" : moves(entry) ? "moves along" : "stands at";
      row.kind.textContent = `${entry.label ? `${entry.label}: ` : ""}${kind} ${stations} ${"keyframes" in entry ? "keyframes" : stations > 1 ? "poses" : "a pose from a file"}`;
    }
  });
  addButton.disabled = copyButton.disabled = rig.cameras.length >= MAX_VIEWS;
  undoButton.disabled = !past.length;
  fromButton.textContent = `from camera ${selected + 1}`;
  const current = JSON.stringify(rig.cameras);
  for (const chip of element.querySelectorAll("[data-preset]")) {
    const preset = props.presets.find((p) => p.name === chip.dataset.preset);
    chip.setAttribute("aria-pressed", JSON.stringify(preset.document.cameras) === current || pool === preset.document);
  }
}

function showPicker() {
  picker.hidden = !pool;
  if (!pool) return;
  pickerTitle.textContent = `${pool.title?.replace(/, \d+ cameras$/, "") || "This file"} has ${pool.cameras.length} cameras; pick up to ${MAX_VIEWS}:`;
  pickerRings.replaceChildren(
    ...Object.entries(pool.rings ?? {}).map(([key, values]) => {
      const field = FIELDS.find((f) => f.key === key);
      const choice = make("select", { "aria-label": `ring ${field.name}`, onchange: () => moveRing(key, Number(choice.value)) });
      choice.append(...values.map((v) => make("option", { value: v, selected: v === pool.cameras[0][key] }, `${field.name} ${v} ${field.unit}`)));
      return choice;
    }),
  );
  pickerChips.replaceChildren(
    ...pool.cameras.map((entry, index) => {
      const on = picked.includes(index);
      const chip = button(String(index + 1), `camera ${index + 1} of the file ${entry.label ?? ""}`, () => pick(on ? picked.filter((i) => i !== index) : [...picked, index]), "pick");
      chip.setAttribute("aria-pressed", on);
      return chip;
    }),
  );
}

studio.traces = (cameras, time) => rigTraces(cameras, props.lens, props.style, time);
const layout = structuredClone(props.layout); // plotly keeps its own state in it
let drawing = false;
let traces = [];
function show() {
  showRows();
  showPicker();
  traces = studio.traces(rig.cameras, studio.time ?? 0);
  syncSoon();
  draw();
}

function draw() {
  if (drawing || !window.Plotly) return;
  drawing = true;
  requestAnimationFrame(async () => {
    drawing = false;
    const shown = traces.map((trace) => (trace.meta === selected + 1 ? { ...trace, line: { ...trace.line, width: 6 } } : trace));
    await Plotly.react(plot, shown, { ...layout, autosize: true }, { displayModeBar: false, responsive: true, displaylogo: false });
    element.dataset.drawn = JSON.stringify(rig.cameras); // what the picture shows now, for tests
    drawFrames();
  });
}

// How far away everything is in the picture. Plotly scales the scene's box to a volume of 1 and sees 45 degrees of
// height; a narrow panel sees less of the width.
function farEnough() {
  const extent = (axis) => {
    const values = traces.flatMap((trace) => trace[axis]).filter((value) => value !== null);
    return Math.max(...values) - Math.min(...values);
  };
  const [dx, dy, dz] = ["x", "y", "z"].map(extent);
  const radius = Math.max(dx, dy) / 2 / Math.cbrt(dx * dy * Math.max(dz, 0.1));
  return (radius / Math.sin(Math.PI / 8)) * Math.max(1, plot.clientHeight / plot.clientWidth);
}
function firstLook() {
  const { eye, up } = props.layout.scene.camera;
  const scale = farEnough() / Math.hypot(eye.x, eye.y, eye.z);
  return { eye: Object.fromEntries(Object.entries(eye).map(([axis, far]) => [axis, scale * far])), up };
}
let moved = false; // whether the viewpoint is the person's own: then nothing but a button may change it
const look = (camera) => Plotly.relayout(plot, { "scene.camera": { center: { x: 0, y: 0, z: 0 }, up: { x: 0, y: 0, z: 1 }, ...camera } });
function lookFrom(camera, own = true) {
  moved = own;
  look(camera);
}

function fromSelected() {
  const pose = poseAt(rig.cameras[selected], studio.time ?? 0);
  const far = length(pose.position) || 1;
  const [x, y, z] = pose.position.map((v) => (1.3 * v) / far);
  const up = Object.fromEntries(["x", "y", "z"].map((axis, i) => [axis, -pose.down[i]]));
  return { eye: { x, y, z }, up };
}

// The frame that the player shows, inside each frustum that still stands where the result's camera stood.
function drawFrames() {
  const scene = plot._fullLayout?.scene?._scene;
  const context = overlay.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  if (overlay.width !== width * ratio || overlay.height !== height * ratio) {
    overlay.width = width * ratio;
    overlay.height = height * ratio;
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const player = studio.player;
  if (!scene?.glplot || !player?.ready()) return;
  const [w, h] = player.size();
  if (Math.abs(w / h - props.lens.width / props.lens.height) > 0.01) return; // made with another lens than is drawn
  const { model, view, projection } = scene.glplot.cameraParams;
  const times = (m, v) => [0, 1, 2, 3].map((row) => m[row] * v[0] + m[4 + row] * v[1] + m[8 + row] * v[2] + m[12 + row] * v[3]);
  const screen = (point) => {
    const scaled = point.map((value, axis) => value * scene.dataScale[axis]);
    const clip = times(projection, times(view, times(model, [...scaled, 1])));
    return [((1 + clip[0] / clip[3]) * width) / 2, ((1 - clip[1] / clip[3]) * height) / 2, clip[3]];
  };
  rig.cameras
    .map((entry, index) => ({ index, entry, trace: traces[index + 2] }))
    .filter(({ entry, index, trace }) => trace && JSON.stringify(entry) === JSON.stringify(player.cameras()[index]))
    .map((camera) => ({ ...camera, corners: [1, 2, 3, 4].map((i) => screen([camera.trace.x[i], camera.trace.y[i], camera.trace.z[i]])) }))
    .sort((a, b) => b.corners[0][2] - a.corners[0][2])
    .forEach(({ index, corners: [a, b, c, d] }) => {
      // Two triangles: seen from the side, a picture in perspective is not a parallelogram.
      for (const [p, q, r, s, t] of [[a, b, d, 1, 1], [c, d, b, -1, -1]]) {
        context.save();
        context.beginPath();
        for (const [x, y] of [p, q, r]) context.lineTo(x, y);
        context.clip();
        context.transform((s * (q[0] - p[0])) / w, (s * (q[1] - p[1])) / w, (t * (r[0] - p[0])) / h, (t * (r[1] - p[1])) / h, p[0], p[1]);
        if (s < 0) context.translate(-w, -h);
        player.paint(context, index, 0, 0, w, h);
        context.restore();
      }
    });
}
studio.showTime = (time) => {
  const moving = rig.cameras.some(moves);
  studio.time = time;
  if (moving) {
    traces = studio.traces(rig.cameras, time);
    draw();
  } else drawFrames();
};

// --------------------------------------------------------------------------------------------- to and from the server

let waiting;
function sync() {
  clearTimeout(waiting);
  if (JSON.stringify(props.value) === JSON.stringify(rig)) return;
  props.value = rig;
  trigger("input");
}
function syncSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(sync, 150);
}
// A click elsewhere, such as on Generate, must find the last edit.
document.addEventListener("pointerdown", (event) => element.contains(event.target) || sync(), true);

watch(["lens", "trained", "relative"], () => {
  showModel();
  show();
});
watch("value", () => {
  if (!props.value || JSON.stringify(props.value) === JSON.stringify(rig)) return;
  open(props.value);
  if (!pool) trigger("input"); // else what is picked is on its way
});

async function exportRig(format) {
  formatSelect.value = "";
  if (!format) return;
  const file = await server.export_for_page([rig, format]);
  if (file.error) return trigger("error_said", { message: file.error });
  const bytes = Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes]));
  download(url, file.name);
  URL.revokeObjectURL(url);
}

function start() {
  traces = studio.traces(rig.cameras, 0);
  layout.scene.camera = firstLook();
  show();
  plot.on?.("plotly_relayouting", () => {
    moved = true;
    drawFrames();
  });
  plot.on?.("plotly_relayout", drawFrames);
  plot.on?.("plotly_click", ({ points }) => points[0].data.meta && select(points[0].data.meta - 1));
  new ResizeObserver(() => requestAnimationFrame(() => (moved ? drawFrames() : look(firstLook())))).observe(plot);
}
showModel();
showRows();
if (window.Plotly) start();
else {
  const script = make("script", { src: fileUrl(props.plotly), async: true });
  script.onload = () => Plotly.newPlot(plot, [], {}).then(start);
  document.head.append(script);
}
}
