// Which revision to ask: base, head, or any of the history, named by what it changed.

import { h, replace } from "./dom.js";

const PAGE = 100;

/** A select of revisions; `fill()` reads the history (the newest hundred) and keeps what is chosen; `choose(value)`. */
export function revisionSelect(api, chosen) {
  const select = h("select", null, [["base", "base: as it was loaded"], ["head", "head: as it is now"]].map(([value, text]) => h("option", { value }, text)));
  keep(select, chosen);

  async function fill(signal) {
    const [{ revisions }, { edits }] = await Promise.all([api.get("/revisions", { limit: PAGE }, { signal }), api.get("/edits", { limit: PAGE }, { signal })]);
    const named = new Map(edits.map((edit) => [edit.id, nameOf(edit)]));
    const value = select.value;
    const options = revisions.map((one) => h("option", { value: `r${one.revision}` }, labelOf(one, named)));
    replace(select, [...select.options].slice(0, 2), options);
    keep(select, value);
  }

  return { element: select, fill, choose: (value) => keep(select, value) };
}

/** Chooses a value; one that is not listed, as an old revision may be, is added. */
function keep(select, value) {
  const name = /^\d+$/.test(value) ? `r${value}` : value;
  if (![...select.options].some((option) => option.value === name)) select.append(h("option", { value: name }, name));
  select.value = name;
}

function nameOf({ request, fact_count: many }) {
  const [first] = request.facts ?? [request];
  return `${first.subject} → ${first.target_new}${many > 1 ? `, and ${many - 1} more` : ""}`;
}

function labelOf({ revision, kind, edit, to }, named) {
  const what = { base: "the base", rollback: `rollback to r${to}` }[kind] ?? `${kind === "edit" ? "" : `${kind}: `}${named.get(edit) ?? edit}`;
  return `r${revision}: ${what}`;
}
