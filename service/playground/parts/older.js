// A list that the service gives page by page, newest first, with a button for what is older.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { busy, button, problemBox } from "../lib/ui.js";

/**
 * `{element, refresh, heal}`. load(before): `{items, next}`; row(item): a node; none: what stands there if there is
 * nothing. refresh() reads the first page again, and forgets the others; heal() does so if the last reading failed.
 */
export function olderList({ load, row, none, className = "list" }) {
  const list = h("ul", { class: className });
  const trouble = h("div");
  const more = button("Older", () => busy(more, () => read(next)), { kind: "quiet" });
  const foot = h("div", { class: "actions", hidden: true }, more);
  let next = null;
  let reading = 0;
  let failed = false;

  async function read(before) {
    const turn = (reading += 1);
    try {
      const found = await load(before);
      if (turn !== reading) return;
      if (before === null) replace(list);
      list.append(...found.items.map((item) => h("li", null, row(item))));
      next = found.next;
      failed = false;
      foot.hidden = next === null;
      replace(trouble, list.children.length === 0 && none());
    } catch (error) {
      if (isAbort(error)) return;
      failed = true;
      replace(trouble, problemBox(error));
    }
  }

  return { element: h("div", null, list, trouble, foot), refresh: () => read(null), heal: () => failed && read(null) };
}
