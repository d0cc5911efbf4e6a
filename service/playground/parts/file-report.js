// What was understood of a file: how it was read, the lines that cannot be used and what to do, and the facts.

import { h } from "../lib/dom.js";
import { count, table } from "../lib/ui.js";
import { tableOfFacts } from "./table-of-facts.js";

const SHOWN = 100;

/** name: the file's; found: what readFile returned. */
export function fileReport(name, { kind, facts, errors }) {
  return [
    h("h2", { id: "understood", tabindex: "-1" }, name),
    h("p", null, summary(kind, facts, errors)),
    errors.length > 0 && faults(errors),
    facts.length > 0 && tableOfFacts(facts),
  ];
}

/** In one sentence what can be applied, and without what. */
export function summary(kind, facts, errors) {
  const bad = new Set(errors.map(({ line }) => line)).size;
  const read = `Read as ${kind}: ${count(facts.length, "fact")} understood`;
  if (bad === 0) return `${read}, nothing is wrong.`;
  const lines = `${count(bad, "line")} with something to correct`;
  if (facts.length === 0) return `${read}, ${lines}. Nothing can be applied yet.`;
  const good =
    facts.length === 1
      ? "The good fact can be applied as it is"
      : `The ${facts.length} good facts can be applied as they are`;
  return `${read}, ${lines}. ${good}, without the lines below; or correct the file and choose it again.`;
}

function faults(errors) {
  const rows = errors.slice(0, SHOWN).map(({ line, field, detail }) => [line, field || "–", detail]);
  const more = errors.length - SHOWN;
  const caption = `What to correct${more > 0 ? `: the first ${SHOWN} of ${errors.length}` : ""}`;
  return h(
    "div",
    { class: "faults" },
    table(caption, [{ label: "Line", numeric: true }, { label: "Field" }, { label: "What to do" }], rows),
  );
}
