// Scores of an edit or a revision, each as a number with a name, and what the name means for whoever asks.

import { h } from "../lib/dom.js";
import { number, percent } from "../lib/ui.js";

export const MEANINGS = {
  EA: ["Took", "share of the edited prompts whose whole new target is the likeliest answer (EA, efficacy)"],
  PA: ["Paraphrases", "share of the paraphrases that follow (PA, generality)"],
  neighborhood_acc: ["Neighbours kept", "share of the neighbours' answers that stay as they were (locality)"],
  S: ["Score", "harmonic mean of ES, PS and NS"],
  ES: ["ES", "share of the prompts whose new target is likelier than the old one"],
  PS: ["PS", "the same of the paraphrases"],
  NS: ["NS", "share of the neighbours whose old target stays likelier"],
};

/** A list of figures: [[label, value, title]], value being text. */
export function figures(list) {
  return h(
    "dl",
    { class: "figures" },
    list.map(([label, value, title]) => h("div", { title }, h("dt", null, label), h("dd", null, value))),
  );
}

/** Of an edit's summary, those of `names` that were measured, as figures. */
export function scoreFigures(summary, names = ["EA", "PA", "neighborhood_acc"]) {
  return names
    .filter((name) => summary?.[name] != null)
    .map((name) => [MEANINGS[name][0], percent(summary[name]), MEANINGS[name][1]]);
}

/** How far a revision is from the base, as figures. */
export function driftFigures(drift) {
  if (!drift) return [];
  const largest = Math.max(0, ...Object.values(drift.norms));
  return [
    ["Weights", percent(largest), "largest relative change of a layer's weights from the base"],
    ["Perplexity", `× ${drift.perplexity_ratio.toFixed(3)}`, "of neutral sentences, over the base's"],
    ["KL", number(drift.kl, 2), "KL(base || this) on neutral sentences, nats a token"],
  ];
}
