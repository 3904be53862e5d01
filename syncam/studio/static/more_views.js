// More views of a result: those between its cameras, for bullet time, or that of the selected camera.

import { button, make, studio } from "./dom.js";

export class MoreViews {
  // `add(camera)` asks the server for one more camera, or without one for bullet time.
  constructor(add) {
    Object.assign(this, { add, result: null, asked: "" });
    this.bullet = button("Make bullet time", "make the views between these cameras; these stay as they are", () => this.ask("bullet time"), "chip");
    this.one = button("One more camera", "make the selected camera's view of this result; its other views stay as they are", () => this.askForCamera(), "chip");
    for (const node of [this.bullet, this.one]) node.removeAttribute("aria-label"); // their names are what they show
    this.note = make("p", { class: "syn-note", role: "status" });
    this.element = make("div", { class: "syn-addviews", role: "group", "aria-label": "more views of this result" }, this.bullet, this.one, this.note);
  }

  show(result = this.result) {
    this.result = result;
    if (!result) return;
    const { views, no_bullet_time } = result.more;
    const no_camera = result.more.no_camera || (this.hasSelected() && studio.rig.isFull ? `camera ${studio.rig.selected + 1} above is this result's already: move it, or select another` : "");
    this.bullet.textContent = no_bullet_time ? "Make bullet time" : `Make bullet time: ${views} cameras`;
    this.one.textContent = !studio.rig || no_camera ? "One more camera" : this.hasSelected() ? "One more camera…" : `One more camera: ${studio.rig.selected + 1}`;
    this.bullet.disabled = Boolean(this.asked || no_bullet_time);
    this.one.disabled = Boolean(this.asked || no_camera);
    const why = [no_bullet_time && ["No bullet time", no_bullet_time], no_camera && ["No more cameras", no_camera]].filter(Boolean);
    if (why.length === 2 && why[0][1] === why[1][1]) why.splice(0, 2, ["No more views", no_camera]);
    this.note.textContent = why.map(([what, reason]) => `${what}: ${reason}.`).join(" ");
  }

  // Makes the selected camera's view; where the result has that already, there is another camera to be placed first.
  askForCamera() {
    if (!this.hasSelected()) return this.ask("camera");
    studio.rig.addNext();
    this.note.textContent = `Place camera ${studio.rig.selected + 1} above, then press again.`;
    document.querySelector("#syn-cameras").scrollIntoView({ behavior: "smooth" });
  }

  // Whether the camera that is selected in the rig is one of the result's.
  hasSelected() {
    const camera = JSON.stringify(studio.rig?.camera);
    return this.result.recipe.rig.cameras.some((entry) => JSON.stringify(entry) === camera);
  }

  // Two quick clicks are one run: nothing can be asked for again before the server has answered.
  ask(what) {
    this.asked = what;
    this.show();
    this.add(what === "camera" ? studio.rig.camera : null);
  }

  // Returns: what was asked for.
  answered() {
    const { asked } = this;
    this.asked = "";
    this.show();
    return asked;
  }
}
