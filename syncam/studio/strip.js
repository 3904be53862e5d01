// A row of results to open, each a picture and a line. Runs after dom.js, as rig_view.js does.

function showStrip() {
  element.replaceChildren(
    ...(props.value || []).map(({ id, title, picture }) =>
      make(
        "button",
        { type: "button", class: "syn-card", title, onclick: () => trigger("select", { id }) },
        make("img", { src: picture, alt: "", loading: "lazy" }),
        make("span", {}, title),
      ),
    ),
  );
}
watch("value", showStrip);
showStrip();
