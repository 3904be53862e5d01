// A row of results to open, each a picture and a line.

import { make, mayStore } from "./dom.js";

export function mount({ element, trigger, props, watch }) {
  let results = [];

  // Another tab may have added to them since, and what is stored may come from anywhere.
  function remembered() {
    const isResult = (entry) => ["id", "title", "picture"].every((key) => typeof entry?.[key] === "string");
    try {
      return JSON.parse(localStorage.getItem(props.remember)).filter(isResult);
    } catch {
      return results; // nothing is stored yet, or a page in a frame may store nothing
    }
  }

  function addGiven() {
    const given = props.value || [];
    const others = props.remember ? remembered().filter(({ id }) => !given.some((entry) => entry.id === id)) : [];
    results = [...given.filter(({ removed }) => !removed), ...others].slice(0, props.most);
    try {
      if (props.remember && given.length) localStorage.setItem(props.remember, JSON.stringify(results));
    } catch {} // then they are there as long as the page is
    showRow();
  }

  const lost = !props.remember || mayStore() ? [] : [make("p", { class: "syn-note" }, "This browser lets the page keep nothing, as it is shown inside another site: your results are listed until you leave, and your settings are not kept.")];

  function showRow() {
    element.replaceChildren(
      ...lost,
      ...results.map(({ id, title, picture }) =>
        make(
          "button",
          { type: "button", class: "syn-card", title, onclick: () => trigger("select", { id }) },
          make("img", { src: picture, alt: "", loading: "lazy" }),
          make("span", {}, title),
        ),
      ),
    );
  }
  watch("value", addGiven);
  window.addEventListener("storage", ({ key }) => {
    if (key !== props.remember) return;
    results = remembered();
    showRow();
  });
  addGiven();
}
