// What an edit did: the answer before and after, prompt by prompt, the scores, the drift, and what to beware of.

import { h } from "./dom.js";
import { overwritten } from "./fact-form.js";
import { number, percent, seconds, table } from "./ui.js";

const SCORES = [
  ["ES", "Efficacy", "prompts where the new answer beats the old one"],
  ["PS", "Generality", "paraphrases where it does"],
  ["NS", "Locality", "neighbours whose own answer still wins"],
  ["S", "Score", "harmonic mean of the three"],
  ["rewrite_acc", "Rewrite accuracy", "tokens of the new answer that are the likeliest"],
  ["rephrase_acc", "Paraphrase accuracy", "the same after paraphrases"],
  ["neighborhood_acc", "Neighbours kept", "tokens of their answers that stayed"],
];

/** What an edit makes the model say, before and after, and what to beware of; the first thing to look at. */
export function answers({ warnings, generations }) {
  return [generations.map(said), warnings.map((warning) => h("p", { class: "note" }, warning))];
}

/** The numbers of an outcome (`edit.outcome`), as a list of elements. */
export function numbers({ request, outcome }) {
  const { metrics, summary, drift, timings } = outcome;
  return [
    metrics && promptTable(metrics),
    scoreTable(summary),
    drift && driftLine(drift),
    h("details", null, h("summary", null, "Time and hyperparameters"), h("div", { class: "stack" }, timeLine(timings), hparamLine(request, outcome.hparams))),
  ];
}

function said({ prompt, before, after }) {
  const side = (kind, label, text) => h("div", { class: ["said", kind] }, h("h3", null, label), h("p", { class: "serif" }, h("span", { class: "muted" }, prompt), h("span", { class: kind }, text)));
  return h("div", { class: "pair" }, side("before", "Before", before), side("after", "After", after));
}

function promptTable({ before, after }) {
  const kinds = [
    ["rewritten", [before.rewrite], [after.rewrite]],
    ["paraphrase", before.paraphrases, after.paraphrases],
    ["neighbour", before.neighborhood, after.neighborhood],
  ];
  const rows = kinds.flatMap(([kind, was, is]) => was.map((one, index) => promptRow(kind, one, is[index])));
  for (const group of ["portability", "locality"]) {
    for (const [name, was] of Object.entries(before[group])) rows.push(...was.map((one, index) => answerRow(`${group}: ${name}`, one, after[group][name][index])));
  }
  const columns = [{ label: "Prompt" }, { label: "New answer" }, { label: "Old answer" }];
  return table("Probabilities, prompt by prompt", columns, rows);
}

function promptRow(kind, was, is) {
  const old = was.target_true ? chances(was.target_true.probability, is.target_true.probability) : "–";
  return [kindly(kind, was.prompt), chances(was.target_new.probability, is.target_new.probability), old];
}

function answerRow(kind, was, is) {
  return [kindly(kind, was.prompt), chances(was.answer.probability, is.answer.probability), "–"];
}

function kindly(kind, prompt) {
  return h("span", null, prompt, " ", h("span", { class: "muted small" }, kind));
}

/** Two bars, before over after, with their numbers. */
export function chances(before, after) {
  const bar = (kind, share) =>
    h("span", { class: ["chance", kind] }, h("span", { class: "visually-hidden" }, `${kind} `), h("span", { class: "chance-bar", "aria-hidden": "true" }, h("span", { style: { width: `${Math.max(share * 100, 0.5)}%` } })), h("span", { class: "chance-number" }, percent(share)));
  return h("span", { class: "chances" }, bar("before", before), bar("after", after));
}

function scoreTable({ before, after }) {
  const rows = SCORES.filter(([name]) => after[name] !== null && after[name] !== undefined).map(([name, label, what]) => [
    h("span", null, label, " ", h("span", { class: "muted small" }, what)),
    h("span", { class: "before" }, percent(before[name])),
    h("span", { class: "after" }, percent(after[name])),
  ]);
  return table("Scores", [{ label: "Score" }, { label: "Before", numeric: true }, { label: "After", numeric: true }], rows);
}

function driftLine({ perplexity_ratio: ratio, kl, norms }) {
  const layers = Object.entries(norms).map(([layer, norm]) => `layer ${layer} by ${percent(norm)}`);
  return h(
    "dl",
    { class: "facts" },
    h("dt", null, "Drift"),
    h("dd", null, `Perplexity of neutral text × ${number(ratio, 4)}, KL ${number(kl, 2)} nats; weights moved: ${layers.join(", ") || "none"}`),
  );
}

function timeLine(timings) {
  return h("p", { class: "small" }, Object.entries(timings).map(([phase, took]) => `${phase} ${seconds(took)}`).join(" · "));
}

function hparamLine({ method }, hparams) {
  return h("pre", { class: "small", tabindex: "0", role: "region", "aria-label": "Hyperparameters" }, `${method} ${JSON.stringify(hparams, null, 1)}`);
}

/** The fact as a sentence with the old answer struck through and the new one over it. */
export function factSentence({ prompt, target_true: old, target_new: target }) {
  return h("p", { class: "sentence" }, prompt, " ", overwritten(old, target));
}
