// Trace: where in the model an answer comes from, as heat maps that tell their numbers.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { empty, problemBox, relativeTime, tag } from "../lib/ui.js";
import { hasEnded, watchJob } from "../parts/job-watch.js";
import { olderList } from "../parts/older.js";
import { traceForm } from "../parts/trace-form.js";
import { traceResult } from "../parts/trace-result.js";

export const title = "Where an answer comes from";
export const lead =
  "The subject is hidden by noise, then one state at a time is put back: what brings the answer back shows where it " +
  "is known.";

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
  const asked = traceForm(context, signal, (trace) => {
    navigate("trace", { id: trace.id }, { quiet: true });
    show(trace);
    earlier.refresh();
  });

  async function show(trace) {
    if (hasEnded(trace)) {
      replace(shown, ended(trace));
      return;
    }
    const label = `Trace of “${trace.request.prompt}”`;
    const onEnd = (found) => open(found.id).then(earlier.refresh);
    const job = watchJob({ api, kind: "traces", id: trace.id, label, signal, announce, onEnd });
    const heading = h("h2", null, trace.request.prompt);
    replace(shown, h("section", { class: "stack", "aria-label": "The trace that runs" }, heading, job));
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
