// Cards of benchmarks that follow those which run; a list that is read again goes on with the same watchers.

import { h, replace } from "../lib/dom.js";
import { benchmarkCard } from "./benchmark-card.js";
import { hasEnded, watchJob } from "./job-watch.js";

/** A function from a benchmark, as the lists have it, to an element that stays as the benchmark is. */
export function benchmarkCards({ api, announce }, signal) {
  const watched = new Map(); // by id: what shows the progress, and where its card stands now

  function card(benchmark) {
    const place = h("div");
    const progress = hasEnded(benchmark) ? null : watch(benchmark, place);
    return replace(place, benchmarkCard(benchmark, progress));
  }

  function watch({ id, request }, place) {
    const held = watched.get(id) ?? { element: begin(id, request) };
    held.place = place;
    watched.set(id, held);
    return held.element;
  }

  function begin(id, request) {
    const label = `Benchmark on ${request.dataset ?? "palimpsest"}`;
    return watchJob({ api, kind: "benchmarks", id, label, signal, announce, onEnd });
  }

  function onEnd(benchmark) {
    const { place } = watched.get(benchmark.id);
    watched.delete(benchmark.id);
    announce(`The benchmark is ${benchmark.status}`);
    replace(place, benchmarkCard(benchmark, null));
  }

  return card;
}
