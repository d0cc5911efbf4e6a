// Benchmarks: methods compared on a data set, while the head stays as it is.

import { h } from "../lib/dom.js";
import { empty } from "../lib/ui.js";
import { benchmarkCards } from "../parts/benchmark-cards.js";
import { benchmarkForm } from "../parts/benchmark-form.js";
import { olderList } from "../parts/older.js";

export const title = "Benchmarks";
export const lead =
  "Each record is edited by each method, scored, and the edit is dropped: no revision is made, and nobody sees it.";

export function mount(root, context) {
  const { api, state } = context;
  const stopping = new AbortController();
  const signal = stopping.signal;
  const card = benchmarkCards(context, signal);
  const list = olderList({
    load: async (before) => {
      const page = await api.get("/benchmarks", { limit: 10, before }, { signal });
      return { items: page.benchmarks, next: page.next };
    },
    row: card,
    none: () => empty("No benchmark yet", "Start one with a few records to see how long an edit takes here."),
    className: "list cards",
  });

  root.append(
    h(
      "div",
      { class: "stack" },
      benchmarkForm(context, signal, () => list.refresh()),
      h(
        "section",
        { class: "stack", "aria-labelledby": "earlier" },
        h("h2", { id: "earlier" }, "Benchmarks so far"),
        list.element,
      ),
    ),
  );
  list.refresh();
  const off = state.onChange(() => list.heal());
  return () => {
    off();
    stopping.abort();
  };
}
