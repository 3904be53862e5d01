() => {
  // What concerns the whole page: the link to share, what to bring into sight, and whether the server is there.
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

  // What this browser keeps over a reload and a restart of the server. In another site's frame it may be allowed nothing.
  studio.remember = (key, text) => {
    try {
      localStorage.setItem(key, text);
    } catch {
      document.body.dataset.storage = "none";
    }
  };
  studio.rememberSettings = (names, values) => {
    studio.remember("syncam-settings", JSON.stringify(Object.fromEntries(names.map((name, i) => [name, values[i]]))));
    // From now on a reload finds these, not what a link had asked for.
    if (location.search && document.body.dataset.storage !== "none") history.replaceState(null, "", location.pathname);
  };

  // Generate can't be pressed again before the server has answered: two quick clicks are one run.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#syn-generate");
    if (button) setTimeout(() => (button.disabled = true));
  });
  studio.enableGenerate = () => {
    const button = document.querySelector("#syn-generate");
    if (button) button.disabled = false;
    studio.player?.answered();
  };

  // Whether the server still answers, asked every two seconds while the page is looked at.
  const health = `${(window.gradio_config?.root ?? "").replace(/\/$/, "")}/healthz`;
  const lost = document.createElement("p");
  lost.id = "syn-lost";
  lost.setAttribute("role", "alert");
  document.body.append(lost);
  let gone = false;
  async function askServer() {
    let answers = true;
    try {
      await fetch(health, { cache: "no-store", signal: AbortSignal.timeout(4500) });
    } catch {
      answers = false;
    }
    if (!answers) lost.textContent = "The server does not answer. Your settings are kept; the page goes on when it is back.";
    else if (gone) {
      lost.textContent = "The server is back.";
      studio.enableGenerate();
      setTimeout(() => gone || (lost.textContent = ""), 4000);
    }
    gone = !answers;
    document.body.classList.toggle("syn-offline", gone);
    setTimeout(askServer, document.hidden ? 10_000 : 2_000);
  }
  setTimeout(askServer, 2_000);
}
