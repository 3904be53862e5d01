// The synchronised player, of which a page has one. All views are tiles of one video, so they can't drift apart; each
// canvas shows its tile of the frame on screen.

import { button, fileUrl, icon, make, studio, wearColour } from "./dom.js";
import { fitGrid, roomHeight } from "./fit_grid.js";
import { MoreViews } from "./more_views.js";
import { TakeRow } from "./take_row.js";

let element, trigger, props, take; // given to mount, or made there

const MODES = [
  ["grid", "Grid", "all views side by side (G)"],
  ["solo", "Solo", "one view, large (keys 1 to 8)"],
  ["wipe", "A|B wipe", "two views under a divider that follows the pointer (W)"],
  ["bullet", "Bullet time", "one camera after the other, while time stands still or runs (B)"],
  ["wiggle", "Wiggle", "two neighbouring views in turn: depth without glasses"],
  ["anaglyph", "Anaglyph", "two neighbouring views for red-cyan glasses"],
];
const SPEEDS = [0.25, 0.5, 1, 2];
const SECONDS_PER_SWEEP = 2.4; // however many cameras it goes through
const WIGGLE_HZ = 5;
const MOST_NAMED = 8; // previews: more of them are too small for words

let shown = null; // the value that is loaded
let mode = "grid";
let view = 0; // the view that solo, wipe, wiggle and anaglyph start from
let at = 0; // bullet time: how far through the cameras, 0 to views - 1; around a ring up to the first again
let timeRuns = false; // in bullet time
let divider = 0.5;
let sweeping = false;
let sweepsNext = false; // the next result, which is made for it
let frame = 0;

const video = make("video", { muted: true, loop: true, playsinline: true, preload: "auto", "aria-hidden": "true", class: "syn-source" });
video.muted = true; // the attribute alone does not count for a video made by script
const grid = make("div", { class: "syn-grid" });
const previews = make("div", { class: "syn-grid syn-previews", hidden: true, "aria-label": "previews of the views" }); // in the cells' place while a run goes on
const single = make("canvas", { class: "syn-single", role: "img" });
const caption = make("span", { class: "syn-caption" });
const stage = make("div", { class: "syn-screen", tabindex: 0, "aria-label": "player" }, grid, previews, make("div", { class: "syn-one" }, single, caption), video);
let canvases = [];

const modeButtons = Object.fromEntries(MODES.map(([name, text, label]) => [name, button(text, label, () => setMode(name), "chip")]));
const modeBar = make("div", { class: "syn-chips", role: "group", "aria-label": "how to watch" }, ...Object.values(modeButtons));
const viewBar = make("div", { class: "syn-views", role: "group", "aria-label": "view" });
const playButton = button(icon("play"), "play or pause (space)", toggle, "round");
const loopButton = button(icon("loop"), "loop (L)", () => setLoop(!video.loop));
const scrubber = make("input", { type: "range", min: 0, step: 1, value: 0, "aria-label": "time, frame", oninput: () => seek(scrubber.valueAsNumber) });
const counter = make("output", { class: "syn-counter" });
const speed = make("select", { "aria-label": "speed", onchange: setSpeed });
speed.append(...SPEEDS.map((s) => make("option", { value: s, selected: s === 1 }, `${s}×`)));
const sweep = make("input", { type: "range", min: 0, step: 0.01, value: 0, "aria-label": "camera position of bullet time", oninput: () => { sweeping = false; at = sweep.valueAsNumber; show(); } });
const runButton = button("time runs", "let time run while the camera moves", () => setTimeRuns(!timeRuns), "chip");
const sweepLine = make("div", { class: "syn-sweep", hidden: true }, make("label", {}, make("span", {}, "cameras"), sweep), runButton);
const transport = make(
  "div",
  { class: "syn-transport" },
  button(icon("first"), "to the first frame", () => seek(0)),
  button(icon("back"), "one frame back (left arrow)", () => step(-1)),
  playButton,
  button(icon("on"), "one frame on (right arrow)", () => step(1)),
  loopButton,
  scrubber,
  counter,
  speed,
  button(icon("full"), "full screen", () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen())),
);
const measured = make("p", { class: "syn-facts", title: "The subject is found by its colour in every view, and its place in space worked out with the cameras that were asked for. 0 % would be perfect." });
const made = make("p", { class: "syn-facts" });
const more = new MoreViews((camera) => {
  sweepsNext = !camera;
  trigger("add_views", { camera });
});
const heading = make("h2", {}, make("b", {}, "3"), " Watch");

// ------------------------------------------------------------------------------------------------------------ drawing

const numViews = () => shown?.recipe.num_views ?? 0;
const size = () => [shown.recipe.width, shown.recipe.height];
const columns = () => Math.ceil(numViews() / Math.floor(Math.sqrt(numViews()))); // as syncam.video.mosaic_grid

// One view of the frame on screen.
function paint(context, index, x, y, w, h) {
  const [tileWidth, tileHeight] = size();
  const [column, row] = [index % columns(), Math.floor(index / columns())];
  context.drawImage(video, column * tileWidth, row * tileHeight, tileWidth, tileHeight, x, y, w, h);
}

const next = (index) => (index + 1 < numViews() ? index + 1 : Math.max(0, index - 1));

function tinted(index, tint) {
  const [w, h] = size();
  const canvas = new OffscreenCanvas(w, h);
  const context = canvas.getContext("2d");
  paint(context, index, 0, 0, w, h);
  context.globalCompositeOperation = "multiply";
  context.fillStyle = tint;
  context.fillRect(0, 0, w, h);
  return canvas;
}

const painters = {
  solo: (context, w, h) => {
    paint(context, view, 0, 0, w, h);
    return [view];
  },
  wipe: (context, w, h) => {
    const other = next(view);
    paint(context, other, 0, 0, w, h);
    context.save();
    context.beginPath();
    context.rect(0, 0, divider * w, h);
    context.clip();
    paint(context, view, 0, 0, w, h);
    context.restore();
    context.fillStyle = "white";
    context.fillRect(divider * w - 0.5, 0, 1, h);
    return [view, other];
  },
  bullet: (context, w, h) => {
    const nearest = Math.round(at) % numViews();
    paint(context, nearest, 0, 0, w, h);
    return [nearest];
  },
  wiggle: (context, w, h) => {
    const now = Math.floor(performance.now() / (1000 / WIGGLE_HZ)) % 2 ? next(view) : view;
    paint(context, now, 0, 0, w, h);
    return [view, next(view)];
  },
  anaglyph: (context) => {
    // A camera moves to its own right as its azimuth grows: the smaller one is the left eye.
    const pair = [view, next(view)].sort((a, b) => shown.azimuths[a] - shown.azimuths[b]);
    context.drawImage(tinted(pair[0], "#ff0000"), 0, 0);
    context.globalCompositeOperation = "lighter";
    context.drawImage(tinted(pair[1], "#00ffff"), 0, 0);
    context.globalCompositeOperation = "source-over";
    return pair;
  },
};

function show() {
  if (!ready()) return;
  const [w, h] = size();
  let views = [];
  if (mode === "grid") {
    canvases.forEach((canvas, index) => {
      paint(canvas.getContext("2d"), index, 0, 0, w, h);
      canvas.dataset.frame = frame;
    });
  } else {
    views = painters[mode](single.getContext("2d"), w, h);
    wearColour(single, props.colours, views[0]);
    single.dataset.frame = frame;
    single.dataset.views = views.join(" ");
    single.setAttribute("aria-label", `camera ${views.map((v) => v + 1).join(" and ")}`);
    caption.textContent = views.map((v) => `cam ${v + 1}`).join(mode === "anaglyph" ? " + " : " | ");
  }
  sweep.value = at;
  [...viewBar.children].forEach((node, index) => node.setAttribute("aria-pressed", views.includes(index)));
}

const ready = () => Boolean(shown) && video.readyState >= 2;
const frameAt = (seconds) => Math.max(0, Math.min(shown.recipe.num_frames - 1, Math.floor(seconds * shown.recipe.fps + 1e-3)));

function onFrame(seconds) {
  if (!shown) return;
  frame = frameAt(seconds);
  scrubber.value = frame;
  counter.textContent = `frame ${frame + 1}/${shown.recipe.num_frames}`;
  element.dataset.frame = frame;
  show();
  studio.showTime?.(shown.recipe.num_frames > 1 ? frame / (shown.recipe.num_frames - 1) : 0);
}
function onPlayed(_, metadata) {
  video.requestVideoFrameCallback(onPlayed);
  onFrame(metadata.mediaTime);
}
video.requestVideoFrameCallback(onPlayed);
video.addEventListener("loadeddata", () => onFrame(video.currentTime)); // where nothing plays by itself
video.addEventListener("seeked", () => onFrame(video.currentTime)); // the browser may call no frame back while paused

let before = performance.now();
function animate(now) {
  const seconds = Math.min(0.1, (now - before) / 1000);
  before = now;
  if (shown && mode === "bullet" && sweeping && numViews() > 1) {
    const span = sweepSpan();
    at += ((direction * seconds * span) / SECONDS_PER_SWEEP) * Number(speed.value);
    if (shown.ring) at = (at + span) % span; // on around
    else if (at >= span || at <= 0) direction = at <= 0 ? 1 : -1; // and back
    at = Math.min(span, Math.max(0, at));
    show();
  } else if (shown && mode === "wiggle") show();
  requestAnimationFrame(animate);
}
let direction = 1;
const sweepSpan = () => Math.max(0, numViews() - (shown.ring ? 0 : 1));
requestAnimationFrame(animate);

// ------------------------------------------------------------------------------------------------------------ control

function play() {
  // A single frame that plays over and over is never there long enough to be drawn.
  if (shown.recipe.num_frames === 1) seek(0);
  else video.play().catch(showControls); // a browser may want a click first
}
// The default too: a browser goes back to it with every new video.
function setSpeed() {
  video.defaultPlaybackRate = video.playbackRate = Number(speed.value);
}
function toggle() {
  if (mode === "bullet") {
    sweeping = !sweeping;
    if (!sweeping) video.pause();
    else if (timeRuns) play();
  } else if (video.paused) play();
  else video.pause();
  showControls();
}
function seek(index) {
  timeRuns = false;
  video.pause();
  const last = shown.recipe.num_frames - 1;
  video.currentTime = (Math.max(0, Math.min(last, index)) + 0.5) / shown.recipe.fps; // mid-frame: no rounding to a neighbour
  showControls();
}
function setTimeRuns(on) {
  timeRuns = on;
  if (on && sweeping) play();
  else video.pause();
  showControls();
}
const step = (by) => seek((frame + by + shown.recipe.num_frames) % shown.recipe.num_frames);
function setLoop(on) {
  video.loop = on;
  showControls();
}
const possible = (name) => numViews() > 1 || ["grid", "solo"].includes(name);
function setMode(name) {
  if (!possible(name)) return;
  mode = name;
  if (mode === "bullet") {
    if (!timeRuns) video.pause();
    at = view;
    sweeping = true;
  }
  showControls();
  show();
}
function setView(index) {
  if (index >= numViews()) return;
  view = index;
  if (mode === "grid") mode = "solo";
  if (mode === "bullet") {
    at = index;
    sweeping = false;
  }
  showControls();
  show();
}

function showControls() {
  const playing = mode === "bullet" ? sweeping : !video.paused;
  element.dataset.mode = mode;
  playButton.replaceChildren(icon(playing ? "pause" : "play"));
  playButton.setAttribute("aria-pressed", playing);
  loopButton.setAttribute("aria-pressed", video.loop);
  sweepLine.hidden = mode !== "bullet";
  runButton.setAttribute("aria-pressed", timeRuns);
  for (const [name, node] of Object.entries(modeButtons)) {
    node.setAttribute("aria-pressed", name === mode);
    node.disabled = !possible(name);
  }
}
video.addEventListener("play", showControls);
video.addEventListener("pause", showControls);
video.addEventListener("ended", showControls);
single.addEventListener("pointermove", (event) => {
  if (mode !== "wipe") return;
  const box = single.getBoundingClientRect();
  divider = (event.clientX - box.left) / box.width;
  show();
});

const KEYS = {
  " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  g: () => setMode("grid"), b: () => setMode("bullet"), w: () => setMode("wipe"), l: () => setLoop(!video.loop),
};
document.addEventListener("keydown", (event) => {
  // Not while somebody writes, nor where the same key already does something.
  const on = (selector) => event.target.closest?.(selector);
  const taken = { " ": "button, a, summary, [role=button]", ArrowLeft: "[type=range]", ArrowRight: "[type=range]" }[event.key];
  if (!shown || event.ctrlKey || event.metaKey || event.altKey || (taken && on(taken))) return;
  if (on("textarea, select, [contenteditable], input:not([type=range], [type=checkbox])")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = KEYS[key] ?? (/^[1-8]$/.test(key) ? () => setView(Number(key) - 1) : null);
  if (!action) return;
  event.preventDefault();
  action();
});

// ---------------------------------------------------------------------------------------------------------------- size

function fit() {
  element.style.setProperty("--tall", `${roomHeight()}px`);
  if (shown) fitGrid(grid, stage.clientWidth, numViews(), size()[0] / size()[1]);
  const picture = previews.querySelector("img");
  if (picture) fitGrid(previews, stage.clientWidth, previews.children.length, picture.naturalWidth / picture.naturalHeight || 1);
}

// The coarse views of a run, which the server writes into a part of the page of its own, shown in the cells' place.
function showPreviews(pictures) {
  previews.hidden = !pictures.length;
  element.classList.toggle("previews", pictures.length > 0);
  previews.replaceChildren(
    ...pictures.map((picture, index) => {
      const cell = make("div", { class: "syn-cell" }, make("img", { src: picture.src, alt: picture.alt, onload: fit }), make("span", { class: "syn-caption" }, `cam ${index + 1}${pictures.length > MOST_NAMED ? "" : ", preview"}`));
      wearColour(cell, props.colours, index);
      return cell;
    }),
  );
}

function watchPreview(preview) {
  new MutationObserver(() => showPreviews([...preview.querySelectorAll("img")])).observe(preview, { childList: true, subtree: true, attributes: true });
}

// ------------------------------------------------------------------------------------------------------------- loading

function load() {
  const value = props.value;
  if (!value?.mosaic || value.id === shown?.id) return;
  shown = value;
  const { recipe } = shown;
  const [w, h] = size();
  view = Math.min(view, numViews() - 1);
  at = Math.min(at, numViews() - 1);
  direction = 1;
  if (!possible(mode)) mode = "grid";
  canvases = Array.from({ length: numViews() }, (_, index) => {
    const canvas = make("canvas", { width: w, height: h, role: "img", "aria-label": `camera ${index + 1}` });
    const cell = make("button", { type: "button", class: "syn-cell", "aria-label": `cam ${index + 1}: watch it alone`, onclick: () => setView(index) });
    cell.append(canvas, make("span", { class: "syn-caption" }, `cam ${index + 1}`));
    wearColour(cell, props.colours, index);
    return canvas;
  });
  grid.replaceChildren(...canvases.map((canvas) => canvas.parentNode));
  [single.width, single.height] = [w, h];
  viewBar.replaceChildren(
    ...canvases.map((_, index) => {
      const node = make("button", { type: "button", class: "syn-badge", "aria-label": `camera ${index + 1}`, onclick: () => setView(index) }, String(index + 1));
      wearColour(node, props.colours, index);
      return node;
    }),
  );
  scrubber.max = recipe.num_frames - 1;
  sweep.max = sweepSpan();
  measured.replaceChildren(make("b", {}, "measured"), ` ${shown.measured}`);
  measured.hidden = !shown.measured;
  made.textContent = shown.made;
  take.show(shown);
  more.show(shown);
  element.dataset.result = shown.id;
  fit();
  const address = fileUrl(shown.mosaic.path);
  if (!address.endsWith(".mp4")) {
    // Made where there was no ffmpeg: an animation, which can be watched but not steered.
    grid.replaceChildren(make("img", { src: address, alt: "all views" }));
    return setMode("grid");
  }
  video.src = address;
  setSpeed();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (sweepsNext) {
    setMode("bullet"); // which is taller
    if (element.getBoundingClientRect().top < 0) studio.showWatch();
    sweepsNext = false;
  }
  if (mode === "bullet") sweeping = !still;
  if (!still && (mode !== "bullet" || timeRuns)) play();
  showControls();
}

export function mount(parts) {
  ({ element, trigger, props } = parts);
  take = new TakeRow(parts, () => frame);
  element.append(make("div", { class: "syn-watchbar" }, heading, modeBar, viewBar), stage, sweepLine, transport, more.element, measured, made, take.element);
  // After a click the keys go on working: a focused button would take the space bar for itself.
  element.addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
  // What the 3D view shows inside the cameras, and how its timeline moves the player.
  const showTime = (time) => ready() && seek(Math.round(time * (shown.recipe.num_frames - 1)));
  studio.player = { ready, paint, size, cameras: () => shown.recipe.rig.cameras, pause: () => video.pause(), showTime, showMore: () => more.show(), answered: () => more.answered() };
  watchPreview(document.querySelector("#syn-preview"));
  new ResizeObserver(fit).observe(stage);
  addEventListener("resize", fit);
  parts.watch("value", load);
  load();
}
