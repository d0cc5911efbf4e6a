// The fields of one fact, the subject being picked by selecting it in the prompt; and the sentence that will be rewritten.

import { h, replace } from "./dom.js";
import { field, uniqueId } from "./ui.js";

const LINES = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/**
 * `elements`: the fields; `read()`: the fact as POST /edits takes it; `fill(fact)`: put one in.
 *
 * What an example brings beyond the fields (locality, portability) is kept as long as its prompt is.
 */
export function factForm({ announce, onInput }) {
  const prompt = h("textarea", { class: "serif", rows: 2, required: true, spellcheck: "false", placeholder: "The Eiffel Tower is located in the city of" });
  const subject = h("input", { class: "serif", required: true, spellcheck: "false", placeholder: "The Eiffel Tower" });
  const target = h("input", { class: "serif after", required: true, spellcheck: "false", placeholder: "Rome" });
  const old = h("input", { class: "serif before", spellcheck: "false", placeholder: "Paris" });
  const paraphrases = h("textarea", { rows: 3, spellcheck: "false", placeholder: "To see the Eiffel Tower, tourists travel to the city of" });
  const neighbours = h("textarea", { rows: 3, spellcheck: "false", placeholder: "The Louvre is located in the city of" });
  const preview = sentence();
  let beyond = {};

  const changed = () => {
    preview.show(prompt.value, subject.value, old.value, target.value);
    onInput?.();
  };
  const pick = (text) => {
    subject.value = text;
    announce(`Subject: ${text}`);
    changed();
  };
  pickable(prompt, pick);
  for (const control of [prompt, subject, target, old]) control.addEventListener("input", changed);

  const more = h(
    "details",
    null,
    h("summary", null, "Paraphrases and neighbours"),
    h(
      "div",
      { class: "stack" },
      field("Paraphrases", paraphrases, { name: "paraphrases", optional: true, hint: "One a line: prompts that should follow the edit." }),
      field("Neighbours", neighbours, { name: "neighborhood", optional: true, hint: "One a line: prompts whose answers must not change." }),
    ),
  );
  const elements = [
    field("Prompt", prompt, { name: "prompt", hint: "A sentence that ends where the answer begins. Select the subject in it, by mouse or with Shift and the arrow keys." }),
    field("Subject", subject, { name: "subject", hint: "As it stands in the prompt." }),
    h(
      "div",
      { class: "grid narrow" },
      field("It should say", target, { name: "target_new" }),
      field("It says now", old, { name: "target_true", optional: true }),
    ),
    preview.element,
    more,
  ];

  function read() {
    const fact = { prompt: prompt.value.trimEnd(), subject: subject.value, target_new: target.value };
    if (old.value.trim()) fact.target_true = old.value;
    if (LINES(paraphrases.value).length) fact.paraphrases = LINES(paraphrases.value);
    if (LINES(neighbours.value).length) fact.neighborhood = LINES(neighbours.value);
    return beyond.prompt === fact.prompt && beyond.subject === fact.subject ? { ...fact, ...beyond.groups } : fact;
  }

  function fill(fact) {
    prompt.value = fact.prompt ?? "";
    subject.value = fact.subject ?? "";
    target.value = fact.target_new ?? "";
    old.value = fact.target_true ?? "";
    paraphrases.value = (fact.paraphrases ?? []).join("\n");
    neighbours.value = (fact.neighborhood ?? []).join("\n");
    beyond = { prompt: fact.prompt, subject: fact.subject, groups: groupsOf(fact) };
    changed();
  }

  changed();
  return { elements, read, fill };
}

function groupsOf({ locality = {}, portability = {} }) {
  const filled = Object.entries({ locality, portability }).filter(([, groups]) => Object.keys(groups).length);
  return Object.fromEntries(filled);
}

/** Calls `pick` with what was selected in the textarea, once the selection stands; all of it is no subject. */
function pickable(textarea, pick) {
  let picked = "";
  const look = () => {
    const text = textarea.value.slice(textarea.selectionStart, textarea.selectionEnd).trim();
    if (!text || text === picked || text === textarea.value.trim() || text.includes("\n")) return;
    picked = text;
    pick(text);
  };
  textarea.addEventListener("pointerup", () => setTimeout(look));
  textarea.addEventListener("keyup", (event) => {
    if (event.key === "Shift" || event.shiftKey) look();
  });
  textarea.addEventListener("touchend", () => setTimeout(look, 50));
  textarea.addEventListener("input", () => {
    picked = "";
  });
}

/** The sentence as a page of the palimpsest: the subject underlined, the old answer scraped off, the new one over it. */
function sentence() {
  const text = h("p", { class: "sentence" });
  const note = h("p", { class: "hint", id: uniqueId("note") });
  const element = h("div", { class: "page", role: "group", "aria-label": "The fact" }, text, note);

  function show(prompt, subject, old, target) {
    element.hidden = !prompt.trim();
    const at = subject ? prompt.indexOf(subject) : -1;
    replace(
      text,
      at < 0 ? prompt : [prompt.slice(0, at), h("mark", { class: "subject" }, subject), prompt.slice(at + subject.length)],
      " ",
      overwritten(old, target),
    );
    replace(note, subject && at < 0 ? "The subject does not stand in the prompt as it is written." : subject ? "" : "Now select the subject in the prompt.");
  }

  return { element, show };
}

/** The old answer and the new one over it; either may be missing. */
export function overwritten(old, target) {
  return h("span", { class: "overwritten" }, old && h("del", { class: "before" }, old), old && target && " ", target ? h("ins", { class: "after" }, target) : h("span", { class: "blank", "aria-hidden": "true" }, "…"));
}
