// Moves of the head (rollback, revert, reapply): each is asked about first, in a dialog that says what it changes.

import { h } from "../lib/dom.js";
import { confirm, count } from "../lib/ui.js";
import { changesBetween } from "./changes.js";
import { editText } from "./fact-text.js";

const SHOWN = 12;
const SAME = "They are in force now: the weights stay as they are, to the last bit.";
const BASE = "No edit is in force then: the model as it was loaded.";
const UNMEASURED =
  "Edits that were computed while it was in force are named afterwards: nobody has measured them without it.";

/** `rollback(revision)`, `revert(id)`, `reapply(id)`: each resolves to the service's answer, or null if declined. */
export function moves({ api, shelf, head }) {
  const activeAt = async (revision) => (await api.get(`/revisions/${revision}`)).active;

  async function rollback(to) {
    const [now, then] = await Promise.all([activeAt(head()), activeAt(to)]);
    const { leave, come } = changesBetween(now, then);
    const edits = await shelf.find([...leave.slice(0, SHOWN), ...come.slice(0, SHOWN)]);
    const agreed = await confirm({
      title: `Roll back to r${to}?`,
      body: [
        line(
          `A new revision r${head() + 1} is made with the edits of r${to} in force. Nothing of the history is lost.`,
        ),
        leave.length + come.length === 0 && line(SAME),
        change("leaves force", "leave force", leave, edits),
        change("comes into force again", "come into force again", come, edits),
        line(then.length === 0 ? BASE : `${count(then.length, "edit")} in force then.`),
      ],
      action: `Roll back to r${to}`,
      danger: leave.length > 0,
    });
    return agreed ? api.post("/rollback", { to }) : null;
  }

  async function revert(id) {
    const [now, edits] = await Promise.all([activeAt(head()), shelf.find([id])]);
    const others = now.filter((other) => other !== id).length;
    const body = [
      change("leaves force", "", [id], edits),
      !now.includes(id) && note("It is not in force any more."),
      line(`A new revision r${head() + 1} is made. ${staying(others)}`),
      others > 0 && line(UNMEASURED),
    ];
    const agreed = await confirm({ title: "Take this edit out?", body, action: "Take it out", danger: true });
    return agreed ? api.post(`/edits/${id}/revert`) : null;
  }

  async function reapply(id) {
    const [now, edits] = await Promise.all([activeAt(head()), shelf.find([id])]);
    const body = [
      change("comes into force again", "", [id], edits),
      now.includes(id) && note("It is in force already."),
      line(`A new revision r${head() + 1} is made. ${staying(now.filter((other) => other !== id).length)}`),
      line("Its stored change is added again; nothing is computed anew."),
    ];
    const agreed = await confirm({ title: "Put this edit back?", body, action: "Put it back" });
    return agreed ? api.post(`/edits/${id}/reapply`) : null;
  }

  return { rollback, revert, reapply };
}

function line(text) {
  return h("p", null, text);
}

function note(text) {
  return h("p", { class: "note" }, text);
}

function staying(others) {
  if (others === 0) return "No other edit is in force.";
  return others === 1
    ? "The other edit in force stays as it is."
    : `The ${others} other edits in force stay as they are.`;
}

function change(one, many, ids, edits) {
  if (ids.length === 0) return null;
  const more = ids.length - SHOWN;
  return h(
    "div",
    { class: "change" },
    h("p", null, h("strong", null, ids.length === 1 ? `1 edit ${one}:` : `${ids.length} edits ${many}:`)),
    h(
      "ul",
      null,
      ids.slice(0, SHOWN).map((id) => h("li", null, editText(id, edits.get(id)))),
      more > 0 && h("li", null, `and ${more} more`),
    ),
  );
}
