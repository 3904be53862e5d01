// Files to import, chosen with the button or dropped anywhere on the page: a camera file, a recipe, one of our videos.
// Several files, or a folder, go to the server as one zip.

import { zipOf } from "./zip.js";

const MOST_FILES = 2000; // of a folder
const MOST_BYTES = 60 << 20; // the server takes 64 MiB at once

// `extensions`: of camera files, in lower case; `fail(message)` says what went wrong.
export function watchImports(extensions, fail) {
  // The field for a video to start from takes what is dropped on it.
  const isFile = (event) => event.dataTransfer?.types.includes("Files") && !event.target.closest?.("#syn-source");
  document.addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    try {
      const { files } = event.dataTransfer;
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      if (entries.some((entry) => entry.isDirectory)) send(await packed(await filesIn(entries, extensions)));
      else send(files.length > 1 ? await packed([...files].map((file) => ({ path: file.name, file }))) : files[0]);
    } catch (error) {
      fail(error.message);
    }
  });
  // What the dialog chose, before gradio sees it.
  document.addEventListener("change", async (event) => {
    const { target } = event;
    if (!target.closest?.("#syn-import, [data-testid$=upload-button]") || !(target.files?.length > 1)) return;
    event.stopImmediatePropagation();
    try {
      send(await packed([...target.files].map((file) => ({ path: file.name, file }))));
    } catch (error) {
      fail(error.message);
    }
  }, true);
}

function send(file) {
  const input = document.querySelector("[data-testid$=upload-button]");
  const chosen = new DataTransfer();
  chosen.items.add(file);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

// Every file below dropped folders that may be a camera file: pictures stay where they are.
async function filesIn(entries, extensions) {
  const found = [];
  const visit = async (entry) => {
    if (found.length > MOST_FILES) return;
    if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a hundred at a time
        if (!some.length) return;
        for (const each of some) await visit(each);
      }
    }
    if (extensions.some((extension) => entry.name.toLowerCase().endsWith(extension)))
      found.push({ path: entry.fullPath.replace(/^\//, ""), file: await new Promise((done, failed) => entry.file(done, failed)) });
  };
  for (const entry of entries) await visit(entry);
  if (!found.length) throw new Error(`This folder has no camera file: none of its files ends in ${extensions.join(", ")}.`);
  if (found.length > MOST_FILES) throw new Error(`This folder has more than ${MOST_FILES} files that may be camera files: drop the one that is meant.`);
  return found;
}

async function packed(files) {
  const size = files.reduce((sum, { file }) => sum + file.size, 0);
  if (size > MOST_BYTES) throw new Error(`These files have ${Math.ceil(size / (1 << 20))} MiB; at most ${MOST_BYTES >> 20} can be imported at once.`);
  const parts = await Promise.all(files.map(async ({ path, file }) => ({ path, bytes: new Uint8Array(await file.arrayBuffer()) })));
  return new File([zipOf(parts)], "files.zip", { type: "application/zip" });
}
