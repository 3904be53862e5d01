// What is wrong with the page's layout in this window. What can be used must be inside the window and inside whatever
// clips it, must show its whole text, and must not lie on another. Numbers on the 3D view and keys on the timeline may
// lie anywhere: they are where their cameras are. (The heads of gradio's accordions have an icon that is turned.)
() => {
  const floating = ".syn-spot, .syn-dot, .syn-stage, .syn-cell, .syn-screen, .syn-source, .syn-dots, .label-wrap";
  const around = (node) => {
    const chain = [];
    for (node = node.parentElement; node && node !== document.body; node = node.parentElement) chain.push(node);
    return chain;
  };
  const style = (node) => getComputedStyle(node);
  const scrolls = (node) => ["auto", "scroll"].includes(style(node).overflowX);
  const scroller = (node) => around(node).find(scrolls) ?? null;
  const isFixed = (node) => [node, ...around(node)].some((part) => style(part).position === "fixed");
  const name = (node) => (node.getAttribute("aria-label") || node.innerText || node.id || node.className).trim().slice(0, 30);

  const nodes = [...document.querySelectorAll("button, a[href], input, select, textarea, summary")].filter((node) => {
    const seen = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    return seen && !node.matches(floating) && node.type !== "file" && node.getBoundingClientRect().width > 1;
  });

  const isCut = (node) => {
    const box = node.getBoundingClientRect();
    if (["BUTTON", "A"].includes(node.tagName) && node.scrollWidth > node.clientWidth + 1) return true;
    for (const part of around(node)) {
      if (scrolls(part)) return false;
      const room = part.getBoundingClientRect();
      if (style(part).overflowX !== "visible" && room.width && (box.left < room.left - 1 || box.right > room.right + 1)) return true;
    }
    return box.left < -1 || box.right > innerWidth + 1;
  };

  const boxes = nodes.filter((node) => !isFixed(node)).map((node) => [node, node.getBoundingClientRect(), scroller(node)]);
  const overlapping = boxes.flatMap(([a, p, s], i) =>
    boxes.slice(i + 1).flatMap(([b, q, t]) => {
      if (s !== t || a.contains(b) || b.contains(a)) return [];
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      return wide > 2 && high > 2 ? [`${name(a)} / ${name(b)}`] : [];
    }),
  );

  const sliders = nodes.filter((node) => node.type === "range").map((node) => node.getBoundingClientRect().width);
  const view = document.querySelector(".syn-view")?.getBoundingClientRect();
  return {
    sideways: Math.max(0, document.documentElement.scrollWidth - innerWidth),
    cut: nodes.filter(isCut).map(name),
    overlapping,
    shortest: Math.round(Math.min(...sliders)),
    view: view ? `${Math.round(view.width)}x${Math.round(view.height)}` : "",
  };
}
