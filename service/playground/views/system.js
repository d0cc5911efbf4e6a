// System: the model, its head, what waits, and who is at work.

import { h, replace } from "../lib/dom.js";
import { button, count, empty, number, relativeTime, table, tag } from "../lib/ui.js";
import { keyForm } from "../parts/key-form.js";
import { watchLine } from "../parts/line.js";

export const title = "State of the system";
export const lead = "The model that is resident, the revision that it serves, what waits in line, and who is at work.";

const BYTES = { float32: 4, bfloat16: 2, float16: 2 };

export function mount(root, context) {
  const { api, state } = context;
  const stopping = new AbortController();
  const signal = stopping.signal;
  const places = Object.fromEntries(
    ["model", "head", "queue", "workers", "key", "more"].map((name) => [name, h("div", { class: "stack" })]),
  );
  const section = (name, heading) =>
    h(
      "section",
      { class: "card", "aria-labelledby": `${name}-heading` },
      h("h2", { id: `${name}-heading` }, heading),
      places[name],
    );
  root.append(
    h(
      "div",
      { class: "system" },
      section("model", "Model"),
      section("head", "Head"),
      section("queue", "In line"),
      section("workers", "Workers"),
      section("key", "Your key"),
      section("more", "For machines, and for whoever builds on it"),
    ),
  );

  function show() {
    const { model } = state;
    if (!model) {
      const none = state.known
        ? empty(state.locked ? "A key is needed" : "No model yet", state.reason ?? "No worker has published its model.")
        : h("p", { class: "muted" }, "loading…");
      replace(places.model, none);
      for (const name of ["head", "workers"]) replace(places[name]);
      return;
    }
    replace(places.model, modelOf(model));
    replace(places.head, headOf(model));
    replace(places.workers, workersOf(model));
  }

  const off = state.onChange(show);
  show();
  watchLine(api, state, places.queue, signal);
  replace(places.key, keyForm(context));
  replace(places.more, links(null));
  api.get("/health", {}, { signal }).then(
    ({ version }) => replace(places.more, links(version)),
    () => {},
  );
  return () => {
    off();
    stopping.abort();
  };
}

function modelOf({ card }) {
  const bytes = card.parameters * (BYTES[card.dtype] ?? 4);
  return facts([
    ["Name", h("strong", null, card.name)],
    ["Family", `${card.family}, ${card.layers} layers of width ${card.hidden_size}`],
    ["Parameters", `${number(card.parameters / 1e6, 4)} million`],
    ["Weights", `${card.dtype} on ${card.device}, ${number(bytes / 1e9, 3)} GB`],
    ["Context", `${number(card.context_length)} tokens`],
    ["Edits rewrite", h("code", null, card.editable)],
    ["Methods", card.methods.map(({ name }) => name).join(", ")],
    ["Base weights", checksum(card.checksum)],
  ]);
}

function headOf({ revision, checksum: sum, edited_layers: layers, card }) {
  const same = sum === card.checksum;
  return facts([
    ["Revision", h("a", { href: "#/history", class: "mono" }, `r${revision}`)],
    ["Edited layers", layers.length > 0 ? layers.join(", ") : "none"],
    ["Checksum", [checksum(sum), " ", same && tag("the base, to the last bit", "good")]],
  ]);
}

/** A checksum, short; all of it for whoever points at it or copies it. */
function checksum(sum) {
  const short = h("code", { title: sum }, `${sum.slice(0, 12)}…`);
  const copy = button("Copy", () => navigator.clipboard?.writeText(sum), {
    kind: "quiet small",
    "aria-label": "Copy the whole checksum",
  });
  return [short, navigator.clipboard && copy];
}

function facts(terms) {
  return h(
    "dl",
    { class: "facts" },
    terms.map(([term, meaning]) => [h("dt", null, term), h("dd", null, meaning)]),
  );
}

function workersOf({ workers, revision }) {
  if (workers.length === 0)
    return h("p", { class: "note" }, "No worker is there. Start one with palimpsest up, or palimpsest worker.");
  const rows = workers.map((worker) => [
    [h("span", { class: "mono" }, worker.worker), worker.leader && [" ", tag("leads", "after")]],
    tag(worker.state, worker.state === "ready" ? "good" : "warn"),
    worker.detail,
    worker.revision === null
      ? "–"
      : `r${worker.revision}${worker.revision < revision ? `, ${revision - worker.revision} behind` : ""}`,
    worker.pid,
    relativeTime(worker.since),
  ]);
  const columns = ["Worker", "State", "What it does", "Serves", "Process", "Since"].map((label) => ({
    label,
    numeric: label === "Process",
  }));
  return table(count(workers.length, "worker"), columns, rows);
}

function links(version) {
  const link = (href, label, hint) =>
    h(
      "li",
      null,
      h("a", { href, target: "_blank", rel: "noopener" }, label),
      h("span", { class: "muted" }, `, ${hint}`),
    );
  return [
    version && h("p", null, "Palimpsest ", h("span", { class: "mono", id: "version" }, version)),
    h(
      "ul",
      null,
      link("docs", "The HTTP API", "with a form for each call"),
      link("openapi.json", "OpenAPI", "for generators of clients"),
      link("metrics", "Metrics", "for Prometheus"),
      link("ready", "Readiness", "with every worker's lag"),
    ),
  ];
}
