// Facts in a table, some at a time: with the line of the file that each comes from, or with what became of it.

import { h, replace } from "../lib/dom.js";
import { button, number, percent, table, tag } from "../lib/ui.js";

const STEP = 50;

/** A table that shows 50 rows more at each press; row(index): a list of cells. */
export function longTable(caption, columns, length, row) {
  const place = h("div", { class: "stack" });
  let shown = 0;

  function more() {
    shown = Math.min(length, shown + STEP);
    const rows = Array.from({ length: shown }, (_, index) => row(index));
    const rest = length - shown;
    const next =
      rest > 0 && button(`Show ${number(Math.min(rest, STEP))} more of ${number(rest)}`, more, { kind: "quiet" });
    replace(place, table(caption, columns, rows), next && h("p", { class: "actions" }, next));
  }

  more();
  return place;
}

/** What was understood of a file: `{line, fact}` each. */
export function tableOfFacts(found) {
  const columns = ["Line", "Prompt", "Subject", "New target", "Old target", "Paraphrases", "Neighbours"];
  return longTable("What was understood", columns.map(labelled), found.length, (index) => {
    const { line, fact } = found[index];
    const many = (list) => (list?.length ? number(list.length) : "–");
    return [
      line,
      fact.prompt,
      fact.subject,
      fact.target_new,
      fact.target_true ?? "–",
      many(fact.paraphrases),
      many(fact.neighborhood),
    ];
  });
}

/** What became of each fact: its target's probability before and after. */
export function tableOfOutcomes(facts, outcome) {
  const columns = ["Fact", "New target", "Before", "After", "Took"];
  return longTable("What became of each fact", columns.map(labelled), facts.length, (index) => {
    const { before, after } = outcome.facts[index];
    const took = after.target_new.accuracy === 1;
    return [
      facts[index].prompt,
      facts[index].target_new,
      percent(before.target_new.probability),
      percent(after.target_new.probability),
      took ? tag("took", "good") : tag("did not", "warn"),
    ];
  });
}

function labelled(label) {
  return { label, numeric: ["Line", "Paraphrases", "Neighbours", "Before", "After"].includes(label) };
}
