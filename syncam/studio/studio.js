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

  // Skip links: the first thing that Tab comes to.
  const places = [
    ["to the prompt", "#syn-prompt textarea"],
    ["to the cameras", ".syn-rig button"],
    ["to Generate", "#syn-generate, #syn-stop"],
    ["to the player", ".syn-screen"],
  ];
  const skip = document.createElement("nav");
  skip.className = "syn-skip";
  skip.setAttribute("aria-label", "skip to");
  for (const [text, selector] of places) {
    const link = document.createElement("a");
    Object.assign(link, { href: "#", textContent: text });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const target = [...document.querySelectorAll(selector)].find((node) => node.offsetParent);
      target?.focus();
      target?.scrollIntoView({ block: "center" });
    });
    skip.append(link);
  }
  document.body.prepend(skip);

  // Generate becomes Stop, and Stop becomes Generate: who was there by keyboard goes on from there, or at the result.
  const result = () => document.querySelector(".syn-player")?.dataset.result;
  let [lastFocus, resultBefore] = [null, null];
  document.addEventListener("focusin", (event) => (lastFocus = event.target));
  const wasAt = (selector) => lastFocus?.matches(selector) && [document.body, lastFocus].includes(document.activeElement);
  studio.runBegun = () => {
    resultBefore = result();
    if (wasAt("#syn-generate, .syn-addviews button")) focusWhenThere("#syn-stop");
    studio.showWatch();
  };
  studio.runEnded = () => {
    if (wasAt("#syn-stop")) focusWhenThere(result() === resultBefore ? "#syn-generate" : ".syn-screen");
  };
  const focusWhenThere = (selector) => whenThere(selector, (node) => node.focus({ preventScroll: true }));
  function whenThere(selector, action, tries = 50) {
    const node = document.querySelector(selector);
    if (node?.offsetParent) action(node);
    else if (tries) setTimeout(() => whenThere(selector, action, tries - 1), 40);
  }

  // Where the page is scrolled past Generate, a run's progress and Stop float above it.
  const away = new IntersectionObserver(([{ isIntersecting }]) => (document.querySelector("#syn-go").dataset.away = !isIntersecting));
  whenThere("#syn-seedline", (node) => away.observe(node), 1000);

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
