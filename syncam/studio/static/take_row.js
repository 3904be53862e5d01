// What can be taken from a result: its files, and its settings.

import { button, download, fileUrl, make, studio } from "./dom.js";

const MOST_LINKS = 8; // of single views; more of them are behind a click

// `parts`: {trigger, server} as the player has them; `frameNow()` is the frame on screen.
export class TakeRow {
  constructor(parts, frameNow) {
    Object.assign(this, { parts, frameNow });
    this.element = make("div", { class: "syn-take", role: "group", "aria-label": "download" });
  }

  show(result) {
    const links = result.views.map((file, index) => this.link(file, `cam ${index + 1}`));
    this.element.replaceChildren(
      make("span", { class: "syn-facts" }, "Download"),
      ...(links.length <= MOST_LINKS ? links : [make("details", { class: "syn-more" }, make("summary", {}, `${links.length} views`), make("div", { class: "syn-chips" }, ...links))]),
      this.link(result.mosaic, "mosaic"),
      button("bullet-time gif", "download the frame shown, seen from one camera after the other", (event) => this.save(event.currentTarget, result, "gif"), "chip"),
      button("everything .zip", "videos, frames, recipe, and cameras for nerfstudio, COLMAP and 4D reconstruction", (event) => this.save(event.currentTarget, result, "zip"), "chip"),
      make("span", { class: "syn-facts" }, "Settings"),
      button("use these", "put this result's prompt, cameras, seed and numbers into the fields above", () => this.parts.trigger("use_settings"), "chip"),
      button("copy recipe", "copy the recipe: prompt, cameras, seed, model and all numbers, as JSON", (event) => copy(event, JSON.stringify(result.recipe, null, 1)), "chip"),
      button("copy link", "copy a link that opens the page with these settings", (event) => copy(event, studio.shareLink(result.query)), "chip"),
      ...(result.example ? [] : [button("delete", "delete this result from the server, for good", () => confirm("Delete this result from the server, for good?") && this.parts.trigger("delete_result"), "chip")]),
    );
  }

  link(file, text) {
    return make("a", { class: "syn-button chip", href: fileUrl(file.path), download: file.orig_name, onclick: (event) => (event.preventDefault(), this.saveFile(file)) }, text);
  }

  // A download that fails says so: the result may be gone, or the server.
  async saveFile(file) {
    try {
      const reply = await fetch(fileUrl(file.path));
      if (!reply.ok) throw new Error(reply.status);
      const address = URL.createObjectURL(await reply.blob());
      download(address, file.orig_name);
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch {
      this.parts.trigger("show_error", { message: `${file.orig_name} could not be downloaded: the server does not have it any more, or does not answer.` });
    }
  }

  // Many views take a while: the button says so.
  async save(node, result, kind) {
    const words = node.textContent;
    Object.assign(node, { disabled: true, textContent: "making it…" });
    const made = await this.parts.server.make_file([result.id, kind, this.frameNow()]).catch(() => null);
    Object.assign(node, { disabled: false, textContent: words });
    if (made?.path) return this.saveFile(made);
    this.parts.trigger("show_error", { message: made?.error ?? "The file could not be made: the server does not answer." });
  }
}

function copy(event, text) {
  const node = event.currentTarget;
  const words = node.textContent;
  const say = (answer) => {
    node.textContent = answer;
    setTimeout(() => (node.textContent = words), 1500);
  };
  // Over plain http a browser gives the clipboard to its own machine only.
  Promise.resolve(navigator.clipboard?.writeText(text) ?? Promise.reject()).then(() => say("copied"), () => say("not allowed"));
}
