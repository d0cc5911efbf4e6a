// Problems where they belong: beside the field at fault, and else in a box that says what to do.

import { h, set } from "./dom.js";

/** A box for an ApiError or anything else that was thrown: the problem's title, its sentence, and the fields at fault that `shown` does not name. */
export function problemBox(error, shown = new Set()) {
  const problem = error.problem ?? { title: "Something went wrong on this page", detail: String(error) };
  const rest = (problem.errors ?? []).filter(({ field }) => !shown.has(field));
  // Where every fault stands at its field, the sentence would only repeat them all.
  const detail = shown.size > 0 && rest.length === 0 ? "Correct the marked fields, then send it again." : problem.detail;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", { class: "problem-title" }, problem.title),
    h("p", null, detail),
    rest.length > 1 && h("ul", null, rest.map((one) => h("li", null, h("code", null, one.field), ` ${one.detail}`))),
  );
}

/** Shows a problem in a form: field errors at their fields (see `field`), all else in `place`; the first one is focused. */
export function showProblem(form, place, error) {
  clearProblems(form, place);
  const shown = new Set();
  let first = null;
  for (const { field, detail } of error.problem?.errors ?? []) {
    const holder = holderOf(form, field);
    if (!holder) continue;
    shown.add(field);
    const control = mark(holder, detail);
    first ??= control;
  }
  place.append(problemBox(error, shown));
  first?.closest("details")?.setAttribute("open", "");
  first?.focus();
}

/** Takes all problems out of a form. */
export function clearProblems(form, place) {
  place.replaceChildren();
  for (const holder of form.querySelectorAll("[data-field].invalid")) {
    holder.classList.remove("invalid");
    holder.querySelector(".field-error").replaceChildren();
    set(holder.querySelector("input, select, textarea"), { "aria-invalid": null });
  }
}

/** The field of that name, or else the one that it is a part of: "paraphrases[2]" is shown at "paraphrases". */
function holderOf(form, field) {
  for (let name = field; name; name = name.replace(/(^|[.[])[^.[]*$/, "")) {
    const holder = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (holder) return holder;
  }
  return null;
}

function mark(holder, detail) {
  holder.classList.add("invalid");
  holder.querySelector(".field-error").replaceChildren(detail);
  return set(holder.querySelector("input, select, textarea"), { "aria-invalid": "true" });
}
