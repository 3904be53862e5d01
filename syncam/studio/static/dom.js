// What every part of the page uses to build itself. Text becomes text nodes and attributes, never HTML.

export const studio = (window.syncam ??= {}); // where the parts of the page find each other

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const ICONS = {
  copy: "M8 8h11v11H8z M5 16V5h11",
  mirror: "M12 4v16 M9 8L4 12l5 4z M15 8l5 4-5 4z",
  remove: "M6 6l12 12 M18 6L6 18",
  play: "M7 5v14l12-7z",
  pause: "M7 5h4v14H7z M14 5h4v14h-4z",
  first: "M6 6v12 M18 6l-8 6 8 6z",
  back: "M15 6l-8 6 8 6z",
  on: "M9 6l8 6-8 6z",
  loop: "M17 3l3 3-3 3 M20 6H8a4 4 0 0 0-4 4v1 M7 21l-3-3 3-3 M4 18h12a4 4 0 0 0 4-4v-1",
  full: "M4 9V4h5 M15 4h5v5 M20 15v5h-5 M9 20H4v-5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// `text` is words or an icon; `label` says in full what it does. Its name begins with the words that are seen, for those
// who speak to the page.
export function button(text, label, onclick, kind = "quiet") {
  const name = typeof text !== "string" || label.toLowerCase().includes(text.toLowerCase()) ? label : `${text}: ${label}`;
  return make("button", { type: "button", class: `syn-button ${kind}`, "aria-label": name, title: label, onclick }, text);
}

// Where the server's files are, also behind a path prefix.
export const fileUrl = (path) => `${window.gradio_config.root.replace(/\/$/, "")}${window.gradio_config.api_prefix}/file=${path}`;

export function download(url, name) {
  make("a", { href: url, download: name }).click();
}

// Whether this browser lets the page keep anything: in another site's frame it may not.
export function mayStore() {
  try {
    return Boolean(localStorage);
  } catch {
    return false;
  }
}

// Loads a style sheet that lies beside the scripts, once.
export function styled(name) {
  const href = new URL(name, import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return Promise.resolve();
  const link = make("link", { rel: "stylesheet", href });
  document.head.append(link);
  return new Promise((resolve) => ["load", "error"].forEach((end) => link.addEventListener(end, resolve)));
}

// Light below 0.18 of white's takes white text, above it black: either way it is read at 4.5 : 1 or better.
function luminance(colour) {
  const channels = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
  const [red, green, blue] = channels.map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// Gives a part of the page its camera's colour, and the one of text on it.
export function wearColour(node, colours, index) {
  const colour = colours[index % colours.length];
  node.style.setProperty("--camera", colour);
  node.style.setProperty("--on-camera", luminance(colour) < 0.18 ? "#ffffff" : "#101216");
}

// A function that has `action` done with the next picture of the screen, but then leaves the page alone for five times as
// long as that took: what plays all the time must not keep a slow machine from what a person does.
export function inSpareTime(action) {
  let [waiting, restUntil] = [null, 0];
  const act = () => {
    waiting = null;
    const began = performance.now();
    action();
    requestAnimationFrame(() => (restUntil = performance.now() + 5 * (performance.now() - began)));
  };
  return () => (waiting ??= setTimeout(() => requestAnimationFrame(act), Math.max(0, restUntil - performance.now())));
}
