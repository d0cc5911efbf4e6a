// Batch: many facts out of a file, as one edit and one revision.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { liveEdit } from "../lib/live.js";
import { busy, button, count, field, number, problemBox } from "../lib/ui.js";
import { dropZone } from "../parts/drop-zone.js";
import { MOST_FACTS, readFile } from "../parts/facts-file.js";
import { fileReport } from "../parts/file-report.js";
import { watchJob } from "../parts/job-watch.js";
import { openKeys } from "../parts/keys.js";
import { whenMethodsAreKnown } from "../parts/methods.js";
import { factsOf } from "../parts/fact-text.js";
import { driftFigures, figures, scoreFigures } from "../parts/scores.js";
import { tableOfOutcomes } from "../parts/table-of-facts.js";

export const title = "Facts in batch";
export const lead =
  "A file of facts becomes one edit and one revision: applied whole or not at all, and rolled back as one.";

const MOST_BYTES = 8_000_000;
const COLUMNS =
  "CSV: a first line that names the columns prompt, subject, target_new and, if you like, target_true, paraphrases, " +
  "neighborhood; commas or semicolons; several paraphrases in a cell have | between them. JSON and JSON lines: " +
  "objects with these fields, or records of CounterFact, zsRE, KnowEdit, MQuAKE.";

export function mount(root, context) {
  const { announce } = context;
  const stopping = new AbortController();
  const report = h("section", { class: "stack", "aria-labelledby": "understood", hidden: true });
  const sending = h("section", { class: "stack", "aria-label": "Apply" });
  const ended = h("section", { class: "stack", "aria-label": "Outcome" });
  root.append(
    h(
      "div",
      { class: "stack" },
      dropZone({ label: "Choose a file", accept: ".csv,.tsv,.json,.jsonl,.ndjson,.txt", hint: COLUMNS, onBytes }),
    ),
    h("div", { class: "stack results" }, report, sending, ended),
  );

  async function onBytes(bytes, name) {
    report.hidden = false;
    replace(report, h("h2", { id: "understood" }, name), h("p", { class: "muted" }, "Reading…"));
    await painted(); // 10,000 facts take a moment
    const found = readFile(name, bytes);
    replace(report, fileReport(name, found));
    replace(ended);
    replace(sending, found.facts.length > 0 && applyForm(context, found, stopping.signal, ended));
    report.querySelector("h2").focus();
    announce(report.querySelector("p").textContent);
  }

  return () => stopping.abort();
}

/** Resolves when what stands on the page has been shown. */
function painted() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}

function applyForm(context, { facts, errors }, signal, ended) {
  const { api, announce } = context;
  const method = h("select", null, h("option", { value: "memit" }, "memit"));
  const size = h("p", { class: "muted small" });
  const trouble = h("div");
  const words = `Apply ${count(facts.length, "fact")} as one edit${errors.length > 0 ? ", without the bad lines" : ""}`;
  const apply = button(words, () => busy(apply, send), { kind: "primary" });
  const place = h("div", { class: "stack" });
  const keys = openKeys();
  const bodyOf = () => ({ facts: facts.map(({ fact }) => fact), method: method.value });
  const told = () => replace(size, sizeText(bodyOf()));
  method.addEventListener("change", told);
  told();
  whenMethodsAreKnown(context.state, signal, (methods) => {
    fillMethods(method, methods);
    told();
  });

  async function send() {
    const body = bodyOf();
    replace(trouble);
    replace(ended);
    try {
      const edit = await api.post("/edits", body, { idempotencyKey: keys.of(body), signal });
      const label = `Edit of ${count(facts.length, "fact")}`;
      const onEnd = ({ id }) => show(id, body);
      replace(
        place,
        watchJob({ api, kind: "edits", id: edit.id, label, signal, announce, onEnd, display: liveEdit() }),
      );
    } catch (error) {
      if (!isAbort(error)) replace(trouble, problemBox(error));
    }
  }

  async function show(id, body) {
    const edit = await api.get(`/edits/${id}`, {}, { signal });
    replace(place);
    replace(ended, outcome(edit));
    if (edit.status === "applied") form.replaceChildren();
    else keys.forget(body); // the next press is a new edit
    announce(`The edit is ${edit.status}`);
    context.state.refresh();
  }

  const hint = "Some methods compute all facts at once; the others take one after the other.";
  const form = h(
    "div",
    { class: "card stack" },
    field("Method", method, { name: "method", hint }),
    size,
    h("div", { class: "actions" }, apply),
    trouble,
    place,
  );
  return form;
}

function fillMethods(select, methods) {
  const option = ({ name, title: long, batch }) =>
    h("option", { value: name }, `${name}: ${long}${batch ? "" : " (one after the other)"}`);
  const sorted = [...methods].sort((one, other) => Number(other.batch) - Number(one.batch));
  replace(select, sorted.map(option));
  select.value = (sorted.find(({ name }) => name === "memit") ?? sorted[0])?.name;
}

function sizeText(body) {
  const bytes = new Blob([JSON.stringify(body)]).size;
  const most =
    `One request may have ${number(MOST_BYTES / 1e6)} MB, unless this server is set up otherwise, ` +
    `and one edit ${number(MOST_FACTS)} facts.`;
  const over = bytes > MOST_BYTES && h("strong", { class: "bad" }, " It is larger than that: split the file.");
  return [
    `This edit is a request of ${bytes < 1e5 ? `${number(bytes / 1e3, 2)} kB` : `${number(bytes / 1e6, 3)} MB`}. `,
    most,
    over,
  ];
}

function outcome(edit) {
  const { status, outcome: found, problem, revision } = edit;
  const facts = factsOf(edit);
  if (!found)
    return [
      h("h2", null, `The edit is ${status}`),
      problem ? problemBoxOf(problem) : h("p", null, "Nothing was changed."),
    ];
  const took = found.facts.filter(({ after }) => after.target_new.accuracy === 1).length;
  return [
    h("h2", null, revision === null ? `The edit is ${status}` : `r${revision} is made`),
    h(
      "p",
      null,
      `${took} of ${count(facts.length, "fact")} took: the new target is the likeliest answer. `,
      revision !== null && h("a", { href: "#/history" }, "See it in the history"),
    ),
    problem && problemBoxOf(problem),
    figures([...scoreFigures(found.summary.after), ...driftFigures(found.drift)]),
    found.warnings.map((warning) => h("p", { class: "note" }, warning)),
    tableOfOutcomes(facts, found),
  ];
}

function problemBoxOf(problem) {
  return h(
    "div",
    { class: "problem" },
    h("p", { class: "problem-title" }, problem.title),
    h("p", null, problem.detail),
  );
}
