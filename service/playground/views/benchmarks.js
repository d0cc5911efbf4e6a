// Benchmarks: methods compared on a data set, while the head stays as it is.

import { h, replace } from "../lib/dom.js";
import { empty } from "../lib/ui.js";
import { benchmarkCard } from "../parts/benchmark-card.js";
import { benchmarkForm } from "../parts/benchmark-form.js";
import { hasEnded, watchJob } from "../parts/job-watch.js";
import { olderList } from "../parts/older.js";

export const title = "Benchmarks";
export const lead =
  "Each record is edited by each method, scored, and the edit is dropped: no revision is made, and nobody sees it.";

export function mount(root, context) {
  const { api, announce, state } = context;
  const stopping = new AbortController();
  const signal = stopping.signal;
  const watchers = new Map(); // by id, so that a list that is read again goes on with the same ones
  const list = olderList({
    load: async (before) => {
      const page = await api.get("/benchmarks", { limit: 10, before }, { signal });
      return { items: page.benchmarks, next: page.next };
    },
    row: (benchmark) => card(benchmark),
    none: () => empty("No benchmark yet", "Start one with a few records to see how long an edit takes here."),
    className: "list cards",
  });

  function card(benchmark) {
    const place = h("div");
    const watched = hasEnded(benchmark) ? null : watcher(benchmark, place);
    return replace(place, benchmarkCard(benchmark, watched));
  }

  function watcher({ id, request }, place) {
    if (!watchers.has(id)) {
      const held = { place };
      held.element = watchJob({
        api,
        kind: "benchmarks",
        id,
        label: `Benchmark on ${request.dataset ?? "palimpsest"}`,
        signal,
        announce,
        onEnd: (ended) => {
          watchers.delete(id);
          announce(`The benchmark is ${ended.status}`);
          replace(held.place, benchmarkCard(ended, null));
        },
      });
      watchers.set(id, held);
    }
    watchers.get(id).place = place;
    return watchers.get(id).element;
  }

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
