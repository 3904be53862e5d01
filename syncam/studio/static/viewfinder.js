// What the selected camera would see. Where a result is there, its nearest view is thrown onto the ground, the sky and
// a board where the subject stands, and seen from the new place; else an empty stage. Drawn pixel by pixel: it needs no
// 3D, and 128 pixels of width take a few milliseconds.

import { make, studio, wearColour } from "./dom.js";
import { length, poseAt } from "./geometry.js";

const WIDTH = 128;
const BOARD_RADIUS = 1.1; // metres around the subject that are taken for it where they differ from what is behind
const DIFFERS = 34; // of 255, from the mean of the rest of its row
// The figure of the empty stage as balls: x, y, height above the ground, radius in metres.
const FIGURE = [
  [-0.3, 0, 0.52, 0.17], [-0.1, 0, 0.53, 0.17], [0.1, 0, 0.54, 0.17], [0.28, 0, 0.56, 0.16], [0.4, 0, 0.7, 0.1], [0.5, 0, 0.82, 0.15], [0.66, 0, 0.79, 0.07],
  ...[-0.27, 0.27].flatMap((x) => [-0.11, 0.11].flatMap((y) => [0.06, 0.2, 0.34].map((z) => [x, y, z, 0.06]))),
];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

export class Viewfinder {
  constructor(store, lensOf, options) {
    Object.assign(this, { store, lensOf, options });
    this.canvas = make("canvas", { role: "img" });
    this.says = make("p", { class: "syn-note" });
    this.element = make("figure", { class: "syn-finder" }, this.canvas, make("figcaption", {}, this.says));
    this.small = new OffscreenCanvas(WIDTH, WIDTH);
    this.source = new OffscreenCanvas(WIDTH, WIDTH);
    store.subscribe(() => this.redraw());
    new MutationObserver(() => this.redraw()).observe(document.body, { attributeFilter: ["class"] });
    this.redraw();
  }

  follow(index) {
    this.element.classList.toggle("following", index !== null);
  }

  redraw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.element.isConnected) this.draw();
    });
  }

  draw() {
    const { store, canvas } = this;
    const entry = store.camera;
    const lens = this.lensOf(entry);
    const height = Math.round((WIDTH * lens.height) / lens.width);
    const pose = poseAt(entry, store.time);
    const view = this.nearestView(pose);
    const picture = this.paint(pose, scaled(lens, WIDTH / lens.width), height, view);
    this.small.height = height;
    this.small.getContext("2d").putImageData(picture, 0, 0);
    const ratio = Math.min(2, window.devicePixelRatio);
    const shown = { width: Math.round(canvas.clientWidth * ratio) || 2 * WIDTH };
    shown.height = Math.round((shown.width * height) / WIDTH);
    if (canvas.width !== shown.width || canvas.height !== shown.height) Object.assign(canvas, shown);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.small, 0, 0, shown.width, shown.height);
    const large = scaled(lens, shown.width / lens.width);
    if (!view) this.drawFigure(context, pose, large);
    this.drawGuides(context, pose, large, shown);
    const from = view ? `, drawn from view ${view.index + 1} of the result` : ", on an empty stage";
    const wrong = this.wrong(pose, large, shown);
    this.says.textContent = `What camera ${store.selected + 1} would see${from}${wrong ? `: ${wrong}` : ""}.`;
    this.says.classList.toggle("warn", Boolean(wrong));
    canvas.setAttribute("aria-label", this.says.textContent);
    canvas.dataset.view = view ? view.index + 1 : "";
  }

  wrong(pose, lens, { width, height }) {
    if (pose.position[2] < this.options.groundZ) return "it is inside the ground";
    const at = projected([0, 0, 0], pose, lens);
    return !at || at[0] < 0 || at[1] < 0 || at[0] > width || at[1] > height ? "the subject is outside the picture" : "";
  }

  // ------------------------------------------------------------------------------------------------ from what there is

  // The view of the result that plays whose direction is nearest, with its pixels; null if no result is there.
  nearestView(pose) {
    const { player } = studio;
    if (!player?.ready()) return null;
    const unit = (v) => v.map((value) => value / (length(v) || 1));
    const poses = player.cameras().map((entry) => poseAt(entry, this.store.time));
    const nearness = poses.map((other) => dot(unit(other.position), unit(pose.position)) - 0.05 * Math.abs(Math.log(length(other.position) / length(pose.position) || 1)));
    const index = nearness.indexOf(Math.max(...nearness));
    const [w, h] = player.size();
    const height = Math.round((WIDTH * h) / w);
    this.source.height = height;
    const context = this.source.getContext("2d", { willReadFrequently: true });
    player.paint(context, index, 0, 0, WIDTH, height);
    const lens = player.cameras()[index].intrinsics ?? this.lensOf({});
    const scaledLens = { ...scaled(lens, WIDTH / lens.width), cy: height / 2 };
    return { index, pose: poses[index], lens: scaledLens, height, ...this.splitSubject(context.getImageData(0, 0, WIDTH, height), poses[index], scaledLens, height) };
  }

  // Which pixels are the subject's, and what is behind it in each row.
  splitSubject({ data }, pose, lens, height) {
    const middle = projected([0, 0, this.options.groundZ + 0.5], pose, lens) ?? [WIDTH / 2, height / 2];
    const radius = (BOARD_RADIUS * lens.fx) / length(pose.position);
    const inside = (x, y) => (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius ** 2;
    const rows = new Float32Array(3 * height);
    const subject = new Uint8Array(WIDTH * height);
    for (let y = 0; y < height; y++) {
      const sum = [0, 0, 0, 0];
      for (let x = 0; x < WIDTH; x++)
        if (!inside(x, y)) {
          for (let c = 0; c < 3; c++) sum[c] += data[4 * (y * WIDTH + x) + c];
          sum[3] += 1;
        }
      for (let c = 0; c < 3; c++) rows[3 * y + c] = sum[3] ? sum[c] / sum[3] : data[4 * y * WIDTH + c];
      for (let x = 0; x < WIDTH; x++) {
        const i = 4 * (y * WIDTH + x);
        subject[y * WIDTH + x] = inside(x, y) && Math.max(...[0, 1, 2].map((c) => Math.abs(data[i + c] - rows[3 * y + c]))) > DIFFERS;
      }
    }
    return { data, rows, subject };
  }

  // ------------------------------------------------------------------------------------------------------- pixel by pixel

  paint(pose, lens, height, view) {
    const image = new ImageData(WIDTH, height);
    const style = getComputedStyle(this.element);
    const colour = (name) => style.getPropertyValue(name).match(/\w\w/g).map((part) => parseInt(part, 16));
    const stage = { sky: colour("--finder-sky"), ground: colour("--finder-ground"), line: colour("--finder-line") };
    const { groundZ } = this.options;
    const eye = pose.position;
    const flat = Math.hypot(eye[0], eye[1]) || 1;
    const facing = [eye[0] / flat, eye[1] / flat]; // the board stands upright and faces the camera
    const sourceFlat = view ? Math.hypot(view.pose.position[0], view.pose.position[1]) || 1 : 1;
    const sourceSide = view ? [-view.pose.position[1] / sourceFlat, view.pose.position[0] / sourceFlat] : null;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < WIDTH; x++) {
        const [u, v] = [(x + 0.5 - lens.cx) / lens.fx, (y + 0.5 - lens.cy) / lens.fy];
        const ray = [0, 1, 2].map((i) => pose.forward[i] + u * pose.right[i] + v * pose.down[i]);
        const rgb = (view && onBoard(view, eye, ray, facing, sourceSide)) || background(view, stage, eye, ray, groundZ);
        image.data.set(rgb, 4 * (y * WIDTH + x));
        image.data[4 * (y * WIDTH + x) + 3] = 255;
      }
    return image;
  }

  // -------------------------------------------------------------------------------------------------------------- guides

  drawFigure(context, pose, lens) {
    context.fillStyle = getComputedStyle(this.element).getPropertyValue("--stage-subject");
    for (const [x, y, z, radius] of FIGURE) {
      const point = [x, y, this.options.groundZ + z];
      const at = projected(point, pose, lens);
      if (!at) continue;
      context.beginPath();
      context.arc(at[0], at[1], (radius * lens.fx) / at[2], 0, 7);
      context.fill();
    }
  }

  drawGuides(context, pose, lens, { width, height }) {
    context.strokeStyle = "rgb(255 255 255 / 0.5)";
    context.lineWidth = width / 400;
    context.beginPath();
    for (const third of [1 / 3, 2 / 3]) {
      context.moveTo(third * width, 0);
      context.lineTo(third * width, height);
      context.moveTo(0, third * height);
      context.lineTo(width, third * height);
    }
    context.stroke();
    const ahead = Math.atan2(pose.forward[1], pose.forward[0]);
    const [left, right] = [0.3, -0.3].map((turn) => {
      const far = [Math.cos(ahead + turn), Math.sin(ahead + turn), 0].map((value, i) => pose.position[i] + 1e6 * value);
      return projected(far, pose, lens);
    });
    if (left && right) {
      const slope = (right[1] - left[1]) / (right[0] - left[0]);
      context.strokeStyle = "#ffd24d";
      context.lineWidth = width / 180;
      context.setLineDash([width / 30, width / 45]);
      context.beginPath();
      context.moveTo(0, left[1] - slope * left[0]);
      context.lineTo(width, left[1] + slope * (width - left[0]));
      context.stroke();
      context.setLineDash([]);
    }
    const size = width / 11;
    wearColour(this.element, this.options.colours, this.store.selected);
    context.fillStyle = this.element.style.getPropertyValue("--camera");
    context.beginPath();
    context.arc(size, size, 0.7 * size, 0, 7);
    context.fill();
    context.fillStyle = this.element.style.getPropertyValue("--on-camera");
    context.font = `700 ${size}px ui-sans-serif, system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(this.store.selected + 1, size, 1.05 * size);
  }
}

const scaled = (lens, by) => Object.fromEntries(Object.entries(lens).map(([name, value]) => [name, value * by]));

// A point in a camera's picture: x, y, and its depth; null behind the camera.
function projected(point, pose, lens) {
  const from = point.map((value, i) => value - pose.position[i]);
  const depth = dot(from, pose.forward);
  return depth > 1e-6 ? [lens.cx + (lens.fx * dot(from, pose.right)) / depth, lens.cy + (lens.fy * dot(from, pose.down)) / depth, depth] : null;
}

// The source's pixel at a point of the world, if it has one there.
function sourcePixel(view, point, wantsSubject) {
  const at = projected(point, view.pose, view.lens);
  if (!at) return null;
  const [x, y] = [Math.floor(at[0]), Math.floor(at[1])];
  if (x < 0 || y < 0 || x >= WIDTH || y >= view.height) return null;
  const i = y * WIDTH + x;
  if (Boolean(view.subject[i]) !== wantsSubject) return null;
  return view.data.subarray(4 * i, 4 * i + 3);
}

// Where a ray meets the board, in the board of the source: as far to the side and as high.
function onBoard(view, eye, ray, facing, sourceSide) {
  const toward = ray[0] * facing[0] + ray[1] * facing[1];
  if (toward > -1e-6) return null;
  const t = -(eye[0] * facing[0] + eye[1] * facing[1]) / toward;
  const [x, y] = [eye[0] + t * ray[0], eye[1] + t * ray[1]];
  const aside = -x * facing[1] + y * facing[0];
  return sourcePixel(view, [aside * sourceSide[0], aside * sourceSide[1], eye[2] + t * ray[2]], true);
}

function background(view, stage, eye, ray, groundZ) {
  const below = ray[2] < -1e-6 && eye[2] > groundZ;
  const t = below ? (groundZ - eye[2]) / ray[2] : 1e6;
  const point = [eye[0] + t * ray[0], eye[1] + t * ray[1], eye[2] + t * ray[2]];
  if (!view) {
    if (!below) return stage.sky;
    const onLine = [point[0], point[1]].some((value) => Math.abs(value - Math.round(value)) < 0.035 + 0.004 * t);
    return onLine && t * Math.hypot(...ray) < 25 ? stage.line : stage.ground;
  }
  const seen = sourcePixel(view, point, false);
  if (seen) return seen;
  // What the source does not show has the colour of what it shows at the same angle to the horizon.
  const looksDown = (direction) => Math.asin(-direction[2] / Math.hypot(...direction));
  const angle = Math.min(1.5, Math.max(-1.5, looksDown(ray) - looksDown(view.pose.forward)));
  const row = Math.min(view.height - 1, Math.max(0, Math.round(view.lens.cy + view.lens.fy * Math.tan(angle))));
  return view.rows.subarray(3 * row, 3 * row + 3);
}
