// Facts as people read them: what stands there, and what it says now.

import { h } from "../lib/dom.js";
import { count } from "../lib/ui.js";

/** "The Eiffel Tower is located in the city of → Rome", the old target struck out where it is known. */
export function factText({ prompt, target_new: wanted, target_true: old }) {
  return h(
    "span",
    { class: "fact" },
    `${prompt} `,
    old && [h("del", { class: "before" }, old.trim()), " "],
    h("strong", { class: "after" }, wanted.trim()),
  );
}

/** The facts that an edit shows: its one, or the first of its batch. */
export function factsOf(edit) {
  return edit.request.facts ?? [edit.request];
}

/** An edit in one line: its fact, or the first of its facts and how many more there are. */
export function editText(id, edit) {
  if (!edit) return h("span", { class: "fact" }, "Edit ", h("code", null, id));
  const [first] = factsOf(edit);
  return [
    factText(first),
    edit.fact_count > 1 && h("span", { class: "muted" }, ` and ${count(edit.fact_count - 1, "more fact")}`),
  ];
}
