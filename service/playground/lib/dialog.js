// A question that must be answered before something is done.

import { h } from "./dom.js";

/**
 * Asks in a modal dialog; resolves to whether it was agreed to. Escape and "Cancel" say no.
 *
 * body: text or nodes that say what will change; action: the words on the button that does it.
 */
export function confirm({ title, body, action, danger = false }) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "dialog-title" }, title),
        h("div", { class: "dialog-body" }, body),
        h(
          "div",
          { class: "actions" },
          h("button", { class: "button plain", value: "no", autofocus: true }, "Cancel"),
          h("button", { class: ["button", danger ? "danger" : "primary"], value: "yes" }, action),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
