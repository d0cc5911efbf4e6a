// A place to drop one file, or to pick it, or to paste its text.

import { h } from "../lib/dom.js";
import { button } from "../lib/ui.js";

/** onText(bytes, name) gets what was given. accept: as of a file input; hint: text or nodes. */
export function dropZone({ label, accept, hint, onBytes }) {
  const input = h("input", { type: "file", accept, class: "visually-hidden", id: "drop-file", onchange: picked });
  const pasted = h("textarea", { rows: 6, class: "mono", spellcheck: "false", "aria-label": "The text of a file" });
  const zone = h(
    "div",
    { class: "drop", ondragover: over, ondragleave: leave, ondrop: dropped },
    h(
      "label",
      { for: "drop-file", class: "drop-label" },
      h("span", { class: "button plain" }, label),
      h("span", null, " or drop it here"),
    ),
    input,
    h("p", { class: "hint" }, hint),
  );

  async function read(file) {
    onBytes(new Uint8Array(await file.arrayBuffer()), file.name);
  }

  function picked() {
    if (input.files.length > 0) read(input.files[0]);
    input.value = ""; // the same file, corrected, may be picked again
  }

  function over(event) {
    event.preventDefault();
    zone.classList.add("over");
  }

  function leave() {
    zone.classList.remove("over");
  }

  function dropped(event) {
    event.preventDefault();
    leave();
    const [file] = event.dataTransfer.files;
    if (file) read(file);
  }

  const paste = h(
    "details",
    null,
    h("summary", null, "Paste text instead"),
    h(
      "div",
      { class: "stack" },
      pasted,
      h(
        "p",
        { class: "actions" },
        button("Read it", () => onBytes(new TextEncoder().encode(pasted.value), "pasted text")),
      ),
    ),
  );
  return h("div", { class: "stack" }, zone, paste);
}
