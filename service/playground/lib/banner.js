// One line at the top that says when something is missing, and goes when it is back.

import { h, replace, set } from "./dom.js";

/** Keeps the banner and the chip with the model's name and head as the state is. */
export function showState(state, banner, chip) {
  state.onChange(() => {
    const trouble = troubleOf(state);
    banner.hidden = trouble === null;
    set(banner, { class: ["banner", trouble && !state.online && "offline"] });
    const why = state.locked ? h("a", { href: "#/system" }, "Enter it") : h("span", null, state.reason);
    replace(banner, trouble && [h("strong", null, trouble), " ", why]);
    chip.hidden = state.model === null;
    if (state.model === null) return;
    const { card, revision } = state.model;
    replace(chip, h("span", { class: ["dot", state.ready ? "good" : "bad"], "aria-hidden": "true" }), h("span", { class: "name" }, card.name), h("span", { class: "rev" }, `r${revision}`));
    set(chip, { "aria-label": `Model ${card.name}, head r${revision}, ${state.ready ? "ready" : "not ready"}: state of the system` });
  });
}

function troubleOf(state) {
  if (!state.online) return "The connection is lost.";
  if (state.locked) return "An API key is needed.";
  if (!state.ready) return "No worker is ready.";
  return null;
}
