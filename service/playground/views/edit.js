// Edit: rewrite one fact, watch it being written, see what it did, take it back.

import { ApiError, isAbort, newKey } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { examples } from "../lib/examples.js";
import { factForm } from "../lib/fact-form.js";
import { methodForm } from "../lib/method-form.js";
import { resultPane } from "../lib/result.js";
import { busy, button, clearProblems, showProblem } from "../lib/ui.js";

export const title = "Rewrite a fact";
export const lead = "Say what the model should answer. The fact is written into its weights; what stood there before can still be read.";

const FIELDS = ["prompt", "subject", "target_new", "target_true"];

/** Builds the view. With `id` it shows that edit; with a prompt and the like it fills the form. */
export function mount(root, context) {
  const { api, params, state } = context;
  const fact = factForm(context);
  const method = methodForm();
  const problems = h("div", { "aria-live": "assertive" });
  const submit = button("Rewrite it", null, { kind: "primary", type: "submit" });
  const form = h("form", { class: "card stack", novalidate: true, "aria-label": "The fact to rewrite" }, fact.elements, method.element, problems, h("div", { class: "actions" }, submit));
  const pane = h("div", { class: "stack" });
  const result = resultPane(context, () => again());
  const suggestions = examples(context, (chosen) => {
    fact.fill(chosen);
    clearProblems(form, problems);
    context.announce("The example is filled in.");
    submit.focus();
  });
  let key = null; // names the request until it has been answered, so that sending it twice makes one edit

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(submit, send);
  });
  form.addEventListener("input", () => {
    key = null;
  });

  async function send() {
    const { options, errors } = method.read();
    if (errors.length) return fail(faults(errors));
    key ??= newKey();
    try {
      const edit = await api.post("/edits", { ...fact.read(), ...options }, { idempotencyKey: key });
      key = null;
      clearProblems(form, problems);
      show(edit.id);
      result.heading.focus({ preventScroll: true });
      result.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
    } catch (error) {
      if (!isAbort(error)) fail(error);
    }
    return undefined;
  }

  function fail(error) {
    showProblem(form, problems, error);
  }

  function show(id) {
    context.navigate("edit", { id }, { quiet: true });
    replace(pane, result.element);
    result.watch(id);
  }

  function again() {
    result.stop();
    context.navigate("edit", {}, { quiet: true });
    replace(pane, suggestions.element);
    form.querySelector("textarea").focus();
  }

  async function takeUp(id) {
    show(id);
    try {
      const { request } = await api.get(`/edits/${encodeURIComponent(id)}`);
      fact.fill(request.facts?.[0] ?? request);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the pane says what is wrong with it
    }
  }

  const showMethods = () => state.model && method.show(state.model.card.methods);
  let known = null;
  const off = state.onChange(() => {
    // A form that is being filled in must not be built anew at every beat.
    if (state.model?.card.checksum !== known) showMethods();
    known = state.model?.card.checksum;
  });
  showMethods();
  known = state.model?.card.checksum;
  root.append(h("div", { class: "split" }, form, pane));
  if (params.get("id")) takeUp(params.get("id"));
  else {
    pane.append(suggestions.element);
    if (params.get("prompt")) fact.fill(Object.fromEntries(FIELDS.filter((name) => params.has(name)).map((name) => [name, params.get(name)])));
  }
  return () => {
    off();
    suggestions.stop();
    result.stop();
  };
}

function faults(errors) {
  const detail = errors.map(({ field, detail }) => `${field}: ${detail}`).join("; ");
  return new ApiError(0, { type: "about:blank", title: "Some entries cannot be understood", status: 0, detail, errors });
}
