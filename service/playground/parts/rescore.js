// Scores what is in force again, for whoever has taken an edit out from under others.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { busy, button, count, problemBox } from "../lib/ui.js";
import { watchJob } from "./job-watch.js";
import { figures, scoreFigures } from "./scores.js";

/** A button that asks for an evaluation (request: its body), shows how far it is, and then its means. */
export function rescoring({ api, announce }, request, signal) {
  const place = h("div", { class: "stack" });
  const start = button("Score what is in force", () => busy(start, ask), { kind: "plain small" });
  replace(place, h("p", { class: "actions" }, start));

  async function ask() {
    try {
      const { id } = await api.post("/evaluations", request, { signal });
      const label = "Scoring the edits in force";
      replace(place, watchJob({ api, kind: "evaluations", id, label, signal, announce, onEnd: show }));
    } catch (error) {
      if (!isAbort(error)) replace(place, problemBox(error));
    }
  }

  function show({ status, result, fact_count: facts }) {
    if (!result) return replace(place, h("p", null, `The evaluation is ${status}.`));
    announce("The edits in force are scored");
    const what = `${count(facts ?? result.facts.length, "fact")} in force at r${result.revision}, as they score now:`;
    return replace(place, h("p", null, what), figures(scoreFigures(result.summary.after)));
  }

  return place;
}
