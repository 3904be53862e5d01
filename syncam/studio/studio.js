() => {
  // What concerns the whole page: the link to share, and files dropped anywhere.
  const studio = (window.syncam ??= {});

  studio.shareLink = (query) => {
    const link = `${location.origin}${location.pathname}?${query}`;
    navigator.clipboard?.writeText(link).catch(() => {}); // without permission it can still be copied from the box
    return link;
  };

  // A rig, a recipe or one of our videos, dropped on the page, goes where the Import button would put it.
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    const input = document.querySelector("input[type=file]");
    if (!isFile(event) || !input) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
