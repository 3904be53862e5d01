() => {
  // What concerns the whole page: the link to share, what to bring into sight, and files dropped anywhere.
  const studio = (window.syncam ??= {});

  studio.shareLink = (query) => {
    const link = `${location.origin}${location.pathname}?${query}`;
    navigator.clipboard?.writeText(link).catch(() => {}); // without permission it can still be copied from the box
    return link;
  };

  // Where the result will be, if that is out of sight: on a phone Generate is in reach from everywhere.
  studio.showWatch = () => {
    const watch = document.querySelector("#syn-watch");
    const { top } = watch.getBoundingClientRect();
    if (top < -60 || top > innerHeight - 160) watch.scrollIntoView({ behavior: "smooth" });
  };

  studio.openHelp = () => {
    const help = document.querySelector("#syn-help");
    if (!help.querySelector(".syn-help")?.offsetParent) help.querySelector("button").click();
    const show = () => help.scrollIntoView({ behavior: "smooth", block: help.offsetHeight > innerHeight ? "start" : "end" });
    setTimeout(show, 200); // when it has opened
  };

  // A rig, a recipe or one of our videos, dropped on the page, goes where the Import button would put it. The field
  // for a video to start from takes what is dropped on it.
  const isFile = (event) => event.dataTransfer?.types.includes("Files") && !event.target.closest?.("#syn-source");
  document.addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    const input = document.querySelector("[data-testid$=upload-button]");
    if (!isFile(event) || !input) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
