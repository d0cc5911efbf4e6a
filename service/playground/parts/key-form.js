// The API key that this tab sends, for services that ask for one.

import { apiKey, useApiKey } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { button, field } from "../lib/ui.js";

/** A form to enter the key or to forget it; what is known of the service is asked anew with it. */
export function keyForm({ state, announce }) {
  const input = h("input", { type: "password", placeholder: apiKey() ? "in use" : "palimpsest_…" });
  const told = h("p", { class: "muted" });
  const hint = "Kept in this tab alone, and gone when it is closed. Not needed where the service asks for none.";

  function use(key) {
    useApiKey(key);
    input.value = "";
    input.placeholder = key ? "in use" : "palimpsest_…";
    replace(told, key ? "The key is in use." : "No key is sent.");
    announce(told.textContent);
    state.refresh();
  }

  function submit(event) {
    event.preventDefault();
    if (input.value.trim()) use(input.value.trim());
  }

  return h(
    "form",
    { class: "stack", novalidate: true, onsubmit: submit, "aria-label": "API key" },
    field("API key", input, { hint }),
    h(
      "div",
      { class: "actions" },
      button("Use it", null, { type: "submit" }),
      button("Forget it", () => use(null), { kind: "quiet" }),
    ),
    told,
  );
}
