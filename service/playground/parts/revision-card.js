// One revision of the timeline: what made it, what that did, and what can be done with it.

import { h } from "../lib/dom.js";
import { hashOf } from "../lib/router.js";
import { button, count, relativeTime, tag } from "../lib/ui.js";
import { editText, factsOf } from "./fact-text.js";
import { fileLink } from "./file-link.js";
import { driftFigures, figures, scoreFigures } from "./scores.js";

const KINDS = { base: "plain", edit: "after", revert: "before", reapply: "after", rollback: "warn" };

/**
 * A list item. entry: the revision; edit: its edit, if that is known; standing: {head, active (a Set), idle};
 * act(verb, argument, button): what the buttons do.
 */
export function revisionCard(entry, edit, standing, act) {
  const { revision, kind, parent } = entry;
  const isHead = revision === standing.head;
  return h(
    "li",
    { class: ["revision", `kind-${kind}`, isHead && "is-head"], "data-revision": revision },
    h(
      "article",
      { class: "card", "aria-labelledby": `r${revision}-name` },
      h(
        "header",
        null,
        h("h2", { id: `r${revision}-name`, class: "mono" }, `r${revision}`),
        tag(kind, KINDS[kind]),
        isHead && tag("head", "good"),
        kind === "edit" && force(standing.active.has(entry.edit)),
        h("span", { class: "meta" }, relativeTime(entry.created_at)),
      ),
      h("p", { class: "serif what" }, whatOf(entry, edit)),
      measured(entry, edit),
      h(
        "div",
        { class: "actions" },
        actionsOf(entry, standing, act),
        parent !== null && compareLink(entry, edit),
        details(entry),
        downloads(entry),
      ),
    ),
  );
}

function force(active) {
  return active ? tag("in force", "after") : tag("not in force");
}

function whatOf({ kind, edit: id, to, revision }, edit) {
  switch (kind) {
    case "base":
      return "The model as it was loaded.";
    case "rollback":
      return to === 0 ? "Back to the base, r0." : `Back to the edits of r${to}.`;
    case "revert":
      return ["Taken out: ", editText(id, edit)];
    case "reapply":
      return ["Put back: ", editText(id, edit)];
    default:
      return editText(id, edit) ?? `r${revision}`;
  }
}

function measured(entry, edit) {
  const ownScores = entry.kind === "edit" ? scoreFigures(edit?.outcome?.summary.after) : [];
  const method =
    entry.kind === "edit" && edit ? [["Method", edit.request.method ?? "rome", "how it was computed"]] : [];
  const force = ["In force", count(entry.active_count, "edit"), "edits in force at this revision"];
  return figures([...method, ...ownScores, force, ...driftFigures(entry.drift)]);
}

function actionsOf(entry, { head, active, idle }, act) {
  const { revision, kind, edit } = entry;
  const props = { kind: "plain small", disabled: idle };
  const one = (verb, label, argument) =>
    button(label, (event) => act(verb, argument, event.currentTarget), {
      ...props,
      "aria-describedby": `r${revision}-name`,
      dataset: { key: `${verb}-${revision}` },
    });
  return [
    revision !== head && one("rollback", `Roll back to r${revision}`, revision),
    kind === "edit" && active.has(edit) && one("revert", "Take it out", edit),
    kind === "edit" && !active.has(edit) && one("reapply", "Put it back", edit),
  ];
}

function compareLink({ revision, parent }, edit) {
  const prompt = edit ? factsOf(edit)[0].prompt : undefined;
  const params = { prompt, before: `r${parent}`, after: `r${revision}` };
  return h("a", { class: "button quiet small", href: hashOf("compare", params) }, `Compare with r${parent}`);
}

/** The edit's own page has all its scores, prompt by prompt. */
function details({ kind, edit, revision }) {
  if (kind !== "edit") return null;
  const label = ["What it did", h("span", { class: "visually-hidden" }, `: r${revision}`)];
  return h("a", { class: "button quiet small", href: hashOf("edit", { id: edit }) }, label);
}

function downloads({ revision, active_count: edits }) {
  const link = (what, label) => fileLink(label, `revisions/${revision}/${what}`, { name: `r${revision}-${what}.tar` });
  return h(
    "details",
    { class: "downloads" },
    h("summary", null, "Download", h("span", { class: "visually-hidden" }, ` r${revision}`)),
    h("p", { class: "actions" }, edits > 0 && link("adapter", "LoRA adapter"), link("checkpoint", "Whole model")),
  );
}
