// Trace: where in the model an answer comes from, as heat maps that tell their numbers.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { revisionSelect } from "../lib/revisions.js";
import { busy, button, clearProblems, empty, field, problemBox, relativeTime, showProblem, tag } from "../lib/ui.js";
import { hasEnded, watchJob } from "../parts/job-watch.js";
import { openKeys } from "../parts/keys.js";
import { olderList } from "../parts/older.js";
import { traceResult } from "../parts/trace-result.js";

export const title = "Where an answer comes from";
export const lead =
  "The subject is hidden by noise, then one state at a time is put back: what brings the answer back shows where it " +
  "is known.";

const EXAMPLES = [
  ["The Eiffel Tower is located in the city of", "The Eiffel Tower"],
  ["The Colosseum is in the city of", "The Colosseum"],
  ["Kyoto University is located in the country of", "Kyoto University"],
];

export function mount(root, context) {
  const { api, params, navigate, announce, state } = context;
  const stopping = new AbortController();
  const signal = stopping.signal;
  const shown = h("div", { class: "shown" });
  const earlier = olderList({
    load: async (before) => {
      const page = await api.get("/traces", { limit: 10, before }, { signal });
      return { items: page.traces, next: page.next };
    },
    row: traceLine,
    none: () => empty("No trace yet", "Ask for one above; it takes some seconds to some minutes."),
  });
  const asked = askForm(context, params, signal, (trace) => {
    navigate("trace", { id: trace.id }, { quiet: true });
    show(trace);
    earlier.refresh();
  });

  async function show(trace) {
    if (hasEnded(trace)) {
      replace(shown, ended(trace));
      return;
    }
    const job = watchJob({
      api,
      kind: "traces",
      id: trace.id,
      label: `Trace of “${trace.request.prompt}”`,
      signal,
      announce,
      onEnd: (found) => open(found.id).then(earlier.refresh),
    });
    replace(shown, h("section", { "aria-label": "The trace that runs" }, h("h2", null, trace.request.prompt), job));
  }

  async function open(id) {
    try {
      const trace = await api.get(`/traces/${id}`, {}, { signal });
      asked.fill(trace.request);
      await show(trace);
      if (hasEnded(trace)) announce(`The trace is ${trace.status}`);
    } catch (error) {
      if (!isAbort(error)) replace(shown, problemBox(error));
    }
  }

  root.append(
    asked.element,
    shown,
    h("section", { "aria-labelledby": "earlier" }, h("h2", { id: "earlier" }, "Earlier traces"), earlier.element),
  );
  earlier.refresh();
  if (params.get("id")) open(params.get("id"));
  const off = state.onChange(() => earlier.heal());
  return () => {
    off();
    stopping.abort();
  };
}

function ended(trace) {
  if (trace.result) return traceResult(trace);
  const why = trace.problem?.detail ?? "Ask for it again above.";
  return empty(`The trace was ${trace.status}`, why);
}

function traceLine({ id, status, created_at: at, request, result, revision }) {
  const answer = result?.target ?? request.target;
  return [
    h("a", { href: `#/trace?id=${id}` }, request.prompt, answer && ` ${answer.trim()}`),
    h(
      "span",
      { class: "meta" },
      revision === null ? tag(request.revision ?? "head") : tag(`r${revision}`),
      status !== "completed" && tag(status, status === "failed" ? "bad" : "plain"),
      relativeTime(at),
    ),
  ];
}

/** The form; `fill(request)` puts an earlier request in it. */
function askForm({ api, announce }, params, signal, onAsked) {
  const keys = openKeys();
  const revisions = revisionSelect(api, params.get("revision") ?? "head");
  const inputs = {
    prompt: h("textarea", { rows: 2, required: true, value: params.get("prompt") ?? "" }),
    subject: h("input", { type: "text", required: true, value: params.get("subject") ?? "" }),
    target: h("input", { type: "text", value: params.get("target") ?? "" }),
    revision: revisions.element,
    samples: h("input", { type: "number", min: 1, max: 100, value: 10 }),
  };
  const trouble = h("div");
  const submit = button("Trace it", null, { kind: "primary", type: "submit" });
  const fill = (request) => {
    for (const name of ["prompt", "subject", "target"]) inputs[name].value = request[name] ?? "";
    inputs.samples.value = request.samples ?? 10;
    revisions.choose(request.revision ?? "head");
  };
  const form = h(
    "form",
    {
      class: "card trace-form",
      novalidate: true,
      onsubmit: (event) => void (event.preventDefault(), busy(submit, send)),
    },
    field("Prompt", inputs.prompt, { name: "prompt", hint: "It ends where the answer begins." }),
    h(
      "div",
      { class: "fields" },
      field("Subject", inputs.subject, { name: "subject", hint: "Verbatim from the prompt: select it there." }),
      field("Answer", inputs.target, { name: "target", optional: true, hint: "By default what the model says." }),
      field("Revision", inputs.revision, { name: "revision" }),
      field("Samples", inputs.samples, { name: "samples", hint: "Runs with different noise." }),
    ),
    h(
      "div",
      { class: "actions" },
      submit,
      EXAMPLES.map(([prompt, subject]) => example(prompt, subject, fill)),
    ),
    trouble,
  );
  inputs.prompt.addEventListener("select", () => {
    const { value, selectionStart, selectionEnd } = inputs.prompt;
    const picked = value.slice(selectionStart, selectionEnd).trim();
    if (picked && picked !== value.trim()) inputs.subject.value = picked;
  });

  async function send() {
    clearProblems(form, trouble);
    const body = Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, value]));
    if (!body.target.trim()) delete body.target;
    body.samples = Number(body.samples);
    try {
      const trace = await api.post("/traces", body, { idempotencyKey: keys.of(body), signal });
      keys.forget(body);
      announce("The trace waits in line");
      onAsked(trace);
    } catch (error) {
      if (!isAbort(error)) showProblem(form, trouble, error);
    }
  }

  revisions.fill(signal).catch(() => {}); // base and head can be traced all the same
  return { element: form, fill };
}

function example(prompt, subject, fill) {
  return button(subject, () => fill({ prompt, subject }), { kind: "quiet", "aria-label": `Example: ${subject}` });
}
