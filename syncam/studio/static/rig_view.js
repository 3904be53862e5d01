// The cameras' part of the page: presets, the 3D view or the flat dial, the timeline, a row for each camera and the
// viewfinder. The rig is edited here, at once; the server gets it when a hand comes to rest.

import { button, download, icon, inSpareTime, make, studio, styled } from "./dom.js";
import { FlatDial } from "./flat_dial.js";
import { RigPresets } from "./rig_presets.js";
import { RigRows } from "./rig_rows.js";
import { watchImports } from "./import_files.js";
import { mirrored, RigStore } from "./rig_store.js";
import { Timeline } from "./timeline.js";
import { Viewfinder } from "./viewfinder.js";

const REST_MS = 150;
const VIEW_KEY = "syncam-camera-view"; // "3d" or "flat", what this browser was left with

export async function mount({ element, trigger, props, server, watch }) {
  await styled("rig_view.css");
  const store = (studio.rig = new RigStore(props.value, props.maxViews));
  const lensOf = (entry) => entry.intrinsics ?? props.lens;
  const ranges = Object.fromEntries(Object.entries(props.ranges).map(([key, range]) => [key.split("_")[0], range]));
  const options = { colours: props.colours, groundZ: props.groundZ, ways: props.ways, ranges, showsResult };

  const presets = new RigPresets(store, props.presets);
  const rows = new RigRows(store, props);
  const timeline = new Timeline(store, options, setInMotion);
  const viewfinder = new Viewfinder(store, lensOf, options);
  const views = makeViews();
  const exportNote = make("p", { class: "syn-note", role: "status" });
  const tools = makeTools();
  const reference = make("p", { class: "syn-note" }, "Camera 1 is the reference: this model sees only where the others stand relative to it.");
  const side = make("div", { class: "syn-side" }, rows.element, tools.element, exportNote, reference, viewfinder.element);
  element.append(presets.element, make("div", { class: "syn-workspace" }, make("div", { class: "syn-main" }, views.element, timeline.element), side));

  // Whether a camera's picture in the result that plays is what it would be now: it stands where it stood, with its lens.
  function showsResult(index, lens) {
    const [width, height] = studio.player.size();
    const sameShape = Math.abs(width / height - lens.width / lens.height) < 0.01;
    return sameShape && JSON.stringify(store.cameras[index]) === JSON.stringify(studio.player.cameras()[index]);
  }

  // The 3D view, which is loaded when it is first seen, and the flat dial: one of them is there.
  function makeViews() {
    const host = make("div", { class: "syn-view" });
    const dial = new FlatDial(store, options);
    const choices = ["3d", "flat"].map((kind) => button(kind === "3d" ? "3D" : "flat", `${kind === "3d" ? "3D" : "flat"} view of the cameras`, () => choose(kind), "chip"));
    const note = make("p", { class: "syn-note", hidden: true });
    let stage = null;

    function show(kind) {
      choices.forEach((choice, i) => choice.setAttribute("aria-pressed", (i === 0) === (kind === "3d")));
      host.replaceChildren(kind === "flat" ? dial.element : (stage?.element ?? make("div", { class: "syn-stage" })));
      host.dataset.kind = kind;
      if (kind === "flat") dial.show();
      else if (stage) stage.resize();
      else whenSeen(host, load);
    }
    function choose(kind) {
      remember(VIEW_KEY, kind);
      show(kind);
    }
    async function load() {
      try {
        const { RigStage } = await import("./rig_stage.js");
        stage = new RigStage(store, lensOf, options);
      } catch (error) {
        note.textContent = "This browser shows no 3D here: the flat view does the same.";
        note.hidden = false;
        console.warn(error);
        return show("flat");
      }
      stage.onDrawn = () => drawn("3d");
      stage.onDrag = (index) => viewfinder.follow(index);
      studio.stage = stage; // for tests
      new ResizeObserver(() => stage.resize()).observe(host);
      new MutationObserver(() => stage.setColours()).observe(document.body, { attributeFilter: ["class"] });
      if (host.dataset.kind === "3d") host.replaceChildren(stage.element);
      stage.setColours();
      stage.resize();
    }
    function drawn(kind) {
      if (host.dataset.kind === kind) element.dataset.drawn = JSON.stringify(store.cameras); // what is shown now, for tests
    }
    dial.onDrawn = () => drawn("flat");
    dial.onDrag = (index) => viewfinder.follow(index);
    const small = matchMedia("(max-width: 640px) and (pointer: coarse)").matches;
    show(remembered(VIEW_KEY) ?? (small ? "flat" : "3d"));
    const switcher = make("div", { class: "syn-chips syn-switch", role: "group", "aria-label": "view of the cameras" }, ...choices);
    return { element: make("div", { class: "syn-views3d" }, host, switcher, note), redraw: () => stage?.redraw() };
  }

  function makeTools() {
    const add = button("+ camera", "add a camera", () => store.addNext());
    const copy = button(icon("copy"), "duplicate the selected camera", () => store.add(store.camera, store.selected));
    const mirror = button(icon("mirror"), "mirror the selected camera to the other side", () => store.replace(store.selected, mirrored(store.camera)));
    const undo = button("undo", "undo the last change of the cameras", () => store.undo());
    const redo = button("redo", "redo what was undone", () => store.redo());
    const format = make("select", { "aria-label": "format to export cameras in" }, ...props.formats.map((name) => make("option", { value: name }, name)));
    const save = button("export as", "export the cameras in this format", () => exportRig(format.value));
    const show = () => {
      add.disabled = copy.disabled = store.isFull;
      undo.disabled = !store.past.length;
      redo.disabled = !store.future.length;
    };
    store.subscribe(show);
    show();
    return { element: make("div", { class: "syn-tools" }, add, copy, mirror, undo, redo, make("span", { class: "syn-export" }, save, format)) };
  }

  async function setInMotion(numbers, way) {
    const rig = await server.set_in_motion([store.rig, numbers, way]);
    if (rig.error) trigger("show_error", { message: rig.error });
    else store.change(rig.cameras);
  }

  async function exportRig(format) {
    const file = await server.export_for_page([store.rig, format]);
    if (file.error) return trigger("show_error", { message: file.error });
    exportNote.textContent = file.changes.join(" ");
    const bytes = Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes]));
    download(url, file.name);
    URL.revokeObjectURL(url);
  }

  // ------------------------------------------------------------------------------------------------ the server, the player

  let waiting;
  function sync() {
    clearTimeout(waiting);
    if (JSON.stringify(props.value) === JSON.stringify(store.rig)) return;
    props.value = store.rig;
    trigger("input");
  }
  store.subscribe((what) => {
    if (what !== "rig") return;
    clearTimeout(waiting);
    waiting = setTimeout(sync, REST_MS);
  });
  // A click elsewhere, such as on Generate, must find the last edit.
  document.addEventListener("pointerdown", (event) => element.contains(event.target) || sync(), true);
  element.addEventListener("focusout", sync);

  watch(["lens", "trained", "relative"], showModel);
  watch("value", () => {
    if (!props.value || JSON.stringify(props.value) === JSON.stringify(store.rig)) return;
    store.open(props.value);
    if (!store.pool) trigger("input"); // else what is picked is on its way
  });
  function showModel() {
    rows.showModel();
    reference.hidden = !props.relative;
    store.tell("rig");
  }

  let played = 0;
  const follow = inSpareTime(() => {
    store.setTime(played);
    views.redraw();
    viewfinder.redraw();
  });
  studio.showTime = (time) => {
    played = time;
    follow();
  };
  store.subscribe((what) => what !== "time" && studio.player?.showMore());
  store.beforeKey = () => studio.player?.pause(); // else the moment that is edited would run away
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.closest("textarea, input:not([type=range]), select")) return;
    event.preventDefault();
    if (event.shiftKey) store.redo();
    else store.undo();
  });
  watchImports(props.extensions, (message) => trigger("show_error", { message }));
  showModel();
}

function whenSeen(node, action) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    (window.requestIdleCallback ?? setTimeout)(action, { timeout: 1000 });
  }, { rootMargin: "200px" });
  observer.observe(node);
}

// A page in a frame may store nothing.
function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {} // then it is remembered as long as the page is there
}
