// The parts that every view is built of. What they look like stands in style.css.

import { h, replace, set } from "./dom.js";

export * from "./format.js";
export { confirm } from "./dialog.js";
export { clearProblems, problemBox, showProblem } from "./problem.js";

let made = 0;

/** An id that no other element has. */
export function uniqueId(prefix = "id") {
  made += 1;
  return `${prefix}-${made}`;
}

/**
 * A labelled control with a hint below. `name` is the field's name in the API ("prompt", "hparams.v_lr"): errors that
 * the service tells of it are shown here. The control is an input, select or textarea made with `h`.
 */
export function field(label, control, { name, hint, optional = false } = {}) {
  const id = control.id || uniqueId("field");
  set(control, { id, name, autocomplete: "off", "aria-describedby": `${id}-hint ${id}-error` });
  return h(
    "div",
    { class: "field", dataset: name ? { field: name } : {} },
    h("label", { for: id }, label, optional && h("span", { class: "optional" }, " optional")),
    control,
    h("p", { class: "hint", id: `${id}-hint` }, hint),
    h("p", { class: "field-error", id: `${id}-error` }),
  );
}

/** A button; kind is "primary", "plain" (the default), "danger" or "quiet". */
export function button(label, onclick, { kind = "plain", type = "button", ...props } = {}) {
  return h("button", { class: ["button", kind], type, onclick, ...props }, label);
}

/** Runs something while the button shows that it is at work and takes no second click. */
export async function busy(element, work) {
  if (element.getAttribute("aria-busy") === "true") return undefined;
  set(element, { "aria-busy": "true", "aria-disabled": "true" });
  try {
    return await work();
  } finally {
    set(element, { "aria-busy": null, "aria-disabled": null });
  }
}

/** A table that scrolls by itself where it is too wide. Columns: [{label, numeric}]; rows: lists of cells (text or nodes). */
export function table(caption, columns, rows, { rowHeader = true } = {}) {
  const cell = (value, index) => {
    const head = rowHeader && index === 0;
    const props = { class: columns[index].numeric && "numeric", scope: head && "row" };
    return h(head ? "th" : "td", props, value);
  };
  return h(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      null,
      h("caption", null, caption),
      h("thead", null, h("tr", null, columns.map(({ label, numeric }) => h("th", { scope: "col", class: numeric && "numeric" }, label)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map(cell)))),
    ),
  );
}

/** A progress bar with words beside it: `update(value, max, text)`; without a max it only says that something goes on. */
export function progress(label) {
  const bar = h("progress", { "aria-label": label });
  const text = h("span", { class: "progress-text" });
  const element = h("div", { class: "progress" }, bar, text);
  const update = (value, max, words) => {
    set(bar, max ? { max, value } : { value: null });
    if (!max) bar.removeAttribute("value");
    replace(text, words);
  };
  return { element, update };
}

/** What stands where there is nothing yet: a title, a sentence, and what can be done about it. */
export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", null, text), actions.length > 0 && h("p", { class: "actions" }, actions));
}

/** A small label; kind is "before", "after", "good", "bad", "warn" or "plain". */
export function tag(text, kind = "plain") {
  return h("span", { class: ["tag", kind] }, text);
}
