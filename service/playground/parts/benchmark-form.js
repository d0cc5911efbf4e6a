// The form that asks for a benchmark: which records, which methods, and how the edits are made.

import { h, replace } from "../lib/dom.js";
import { revisionSelect } from "../lib/revisions.js";
import { busy, button, field } from "../lib/ui.js";
import { jobSender } from "./job-sender.js";
import { whenMethodsAreKnown } from "./methods.js";

const DATASETS = [
  "palimpsest",
  "counterfact",
  "knowedit-zsre",
  "knowedit-counterfact",
  "knowedit-recent",
  "knowedit-wikibio",
  "mquake",
];
const MODES = {
  single: "One record an edit, each on the same weights.",
  batch: "Many records an edit, each on the same weights.",
  sequential: "Each edit on all those before it.",
};

/** The form; onAsked(benchmark) gets what the service has queued. */
export function benchmarkForm(context, signal, onAsked) {
  const sender = jobSender(context, "/benchmarks", signal);
  const revisions = revisionSelect(context.api, "base");
  const inputs = controls(revisions.element);
  const known = h("input", { type: "checkbox", id: "known-only" });
  const methods = h("div", { class: "checks" }, h("p", { class: "hint" }, "loading…"));
  const trouble = h("div");
  const submit = button("Start the benchmark", null, { kind: "primary", type: "submit" });
  const mode = modeField(inputs);
  whenMethodsAreKnown(context.state, signal, (found) => replace(methods, found.map(box)));
  revisions.fill(signal).catch(() => {}); // base and head can be named all the same

  const form = h(
    "form",
    { class: "card stack", novalidate: true, onsubmit: (event) => void (event.preventDefault(), busy(submit, send)) },
    h("h2", null, "Start one"),
    h(
      "div",
      { class: "fields" },
      field("Data set", inputs.dataset, { name: "dataset", hint: "The project's own facts; others need the hub." }),
      field("Records", inputs.n, { name: "n", hint: "At most so many." }),
      mode,
      field("Batch size", inputs.batch_size, { name: "batch_size", optional: true, hint: "Records of one edit." }),
      field("Revision", inputs.revision, { name: "revision", hint: "What is edited, and compared with." }),
      field("Seed", inputs.seed, { name: "seed", optional: true, hint: "Draws the records." }),
    ),
    h("fieldset", { class: "methods" }, h("legend", { class: "label" }, "Methods"), methods),
    h(
      "div",
      { class: "check" },
      known,
      h("label", { for: "known-only" }, "Only records that the model knows: their old target is its own answer"),
    ),
    h(
      "datalist",
      { id: "datasets" },
      DATASETS.map((value) => h("option", { value })),
    ),
    h("div", { class: "actions" }, submit),
    trouble,
  );

  async function send() {
    const benchmark = await sender(form, trouble, bodyOf(inputs, known, methods));
    if (benchmark) onAsked(benchmark);
  }

  return form;
}

function bodyOf(inputs, known, methods) {
  const given = Object.entries(inputs).filter(([, { value }]) => value.trim() !== "");
  const numbers = ["n", "batch_size", "seed"];
  return {
    ...Object.fromEntries(
      given.map(([name, { value }]) => [name, numbers.includes(name) ? Number(value) : value.trim()]),
    ),
    methods: [...methods.querySelectorAll("input:checked")].map(({ value }) => value),
    known_only: known.checked,
  };
}

function box({ name, title }) {
  const id = `method-${name}`;
  const input = h("input", { type: "checkbox", value: name, id, checked: name === "rome" });
  return h("div", { class: "check" }, input, h("label", { for: id, title }, name));
}

function controls(revision) {
  return {
    dataset: h("input", { type: "text", value: DATASETS[0], list: "datasets", required: true }),
    n: h("input", { type: "number", min: 1, max: 10_000, value: 10 }),
    mode: h(
      "select",
      null,
      Object.keys(MODES).map((value) => h("option", { value }, value)),
    ),
    batch_size: h("input", { type: "number", min: 1, placeholder: "1, or all" }),
    revision,
    seed: h("input", { type: "number", min: 0, placeholder: "the first records" }),
  };
}

/** The mode, with a hint that explains the chosen one; in mode single there is no batch size. */
function modeField({ mode, batch_size: size }) {
  const element = field("Mode", mode, { name: "mode" });
  const explain = () => {
    size.disabled = mode.value === "single";
    if (size.disabled) size.value = "";
    replace(element.querySelector(".hint"), MODES[mode.value]);
  };
  mode.addEventListener("change", explain);
  explain();
  return element;
}
