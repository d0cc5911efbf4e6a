// Moves of the head (rollback, revert, reapply): each is asked about first, in a dialog that says what it changes.

import { h } from "../lib/dom.js";
import { confirm, count } from "../lib/ui.js";
import { changesBetween } from "./changes.js";
import { editText } from "./fact-text.js";

const SHOWN = 12;

/** `rollback(revision)`, `revert(id)`, `reapply(id)`: each resolves to the service's answer, or null if it was declined. */
export function moves({ api, shelf, head }) {
  async function rollback(to) {
    const [now, then] = await Promise.all([api.get(`/revisions/${head()}`), api.get(`/revisions/${to}`)]);
    const { leave, come } = changesBetween(now.active, then.active);
    const edits = await shelf.find([...leave.slice(0, SHOWN), ...come.slice(0, SHOWN)]);
    const agreed = await confirm({
      title: `Roll back to r${to}?`,
      body: [
        h("p", null, `A new revision r${head() + 1} is made with the edits of r${to} in force; nothing of the history is lost.`),
        leave.length + come.length === 0 && h("p", null, "They are in force now: the weights stay as they are, to the last bit."),
        change("leaves force", "leave force", leave, edits),
        change("comes into force again", "come into force again", come, edits),
        h("p", { class: "muted" }, then.active_count === 0 ? "No edit is in force then: the model as it was loaded." : `${count(then.active_count, "edit")} in force then.`),
      ],
      action: `Roll back to r${to}`,
      danger: leave.length > 0,
    });
    return agreed ? api.post("/rollback", { to }) : null;
  }

  async function toggle(id, verb) {
    const [now, edits] = await Promise.all([api.get(`/revisions/${head()}`), shelf.find([id])]);
    const out = verb === "revert";
    const there = now.active.includes(id);
    const others = now.active.filter((other) => other !== id).length;
    const agreed = await confirm({
      title: out ? "Take this edit out?" : "Put this edit back?",
      body: [
        change(out ? "leaves force" : "comes into force again", "", [id], edits),
        there !== out && h("p", { class: "note" }, out ? "It is not in force any more." : "It is in force already."),
        h("p", null, `A new revision r${head() + 1} is made; ${others === 0 ? "no other edit is in force" : `${count(others, "other edit")} in force ${others === 1 ? "stays" : "stay"} as ${others === 1 ? "it is" : "they are"}`}.`),
        out && others > 0 && h("p", { class: "muted" }, "Edits that were computed while it was in force are named afterwards: nobody has measured them without it."),
        !out && h("p", { class: "muted" }, "Its stored change is added again; nothing is computed anew."),
      ],
      action: out ? "Take it out" : "Put it back",
      danger: out,
    });
    return agreed ? api.post(`/edits/${id}/${verb}`) : null;
  }

  return { rollback, revert: (id) => toggle(id, "revert"), reapply: (id) => toggle(id, "reapply") };
}

function change(one, many, ids, edits) {
  if (ids.length === 0) return null;
  const more = ids.length - SHOWN;
  return h(
    "div",
    { class: "change" },
    h("p", null, h("strong", null, ids.length === 1 ? `1 edit ${one}:` : `${ids.length} edits ${many}:`)),
    h("ul", null, ids.slice(0, SHOWN).map((id) => h("li", null, editText(id, edits.get(id)))), more > 0 && h("li", null, `and ${more} more`)),
  );
}
