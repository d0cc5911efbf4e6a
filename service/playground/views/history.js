// History: every revision as a timeline, and the ways back.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { busy, button, count, problemBox } from "../lib/ui.js";
import { driftChart } from "../parts/drift-chart.js";
import { openShelf } from "../parts/edit-shelf.js";
import { moves } from "../parts/moves.js";
import { rescoring } from "../parts/rescore.js";
import { revisionCard } from "../parts/revision-card.js";
import { driftFigures, figures } from "../parts/scores.js";
import { openTimeline } from "../parts/timeline.js";

export const title = "History";
export const lead =
  "Every change of the model is a revision. None is ever rewritten, and each of them can be in force again.";

export function mount(root, context) {
  const { api, state, announce } = context;
  const stopping = new AbortController();
  const shelf = openShelf(api);
  const timeline = openTimeline(api, stopping.signal);
  const top = h("div", { class: "stack" });
  const told = h("div", { tabindex: "-1" });
  const list = h("ol", { class: "timeline", reversed: true, "aria-label": "Revisions, newest first" });
  const more = button("Older", () => busy(more, () => read(timeline.older)), { kind: "quiet", hidden: true });
  const rescore = (request) => rescoring(context, request, stopping.signal);
  const way = moves({ api, shelf, head: () => timeline.revisions[0].revision });
  root.append(top, told, list, h("div", { class: "actions" }, more));

  async function read(part) {
    try {
      await part();
      await show();
    } catch (error) {
      if (!isAbort(error) && error.status !== 0) replace(told, problemBox(error)); // 0: the banner says so
    }
  }

  async function show() {
    const { revisions, active } = timeline;
    const ids = revisions.map(({ edit }) => edit).filter(Boolean);
    const edits = await shelf.find(ids, stopping.signal);
    const standing = { head: revisions[0]?.revision, active, idle: !state.ready };
    const cards = revisions.map((entry) => revisionCard(entry, edits.get(entry.edit), standing, act));
    keepingPlace(list, () => replace(list, cards));
    replace(top, overview(revisions));
    more.hidden = !timeline.hasOlder;
  }

  async function act(verb, argument, pressed) {
    try {
      const answer = await busy(pressed, () => way[verb](argument));
      if (!answer) return;
      const words = `r${answer.revision.revision ?? answer.revision} is the head now.`;
      replace(told, moved(words, answer, rescore));
      announce(words);
      await read(timeline.newer);
      told.focus(); // the button that was pressed may be gone
      state.refresh();
    } catch (error) {
      if (!isAbort(error)) replace(told, problemBox(error));
    }
  }

  read(timeline.newer);
  const off = state.onChange(() => read(timeline.newer));
  return () => {
    off();
    stopping.abort();
  };
}

/** Whoever was at a button, or had opened something, still is and has when the list is made anew. */
function keepingPlace(list, change) {
  const focused = document.activeElement?.dataset?.key;
  const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.closest("li").dataset.revision));
  change();
  for (const item of list.children) if (open.has(item.dataset.revision)) item.querySelector("details").open = true;
  if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
}

/** What to know of a move; rescore(request): what scores the edits that were computed with one that is out. */
function moved(words, { computed_with_it: others, rescore: request }, rescore) {
  const head = h("strong", null, words);
  if (!others?.length) return h("p", { class: "note" }, head);
  const many = others.length === 1 ? "1 edit in force was" : `${others.length} edits in force were`;
  const why = `${many} computed while the one that is out was in force, and not measured without it.`;
  return h("div", { class: "note stack" }, h("p", null, head, " ", why), rescore(request));
}

function overview(revisions) {
  const [head] = revisions;
  if (!head) return h("p", { class: "muted" }, "There is no revision yet: a worker makes r0 when it first starts.");
  return h(
    "section",
    { class: "card overview", "aria-label": "The head" },
    h(
      "div",
      null,
      h("p", { class: "label" }, `r${head.revision} is the head`),
      h("p", null, `${count(head.active_count, "edit")} in force`),
    ),
    figures(driftFigures(head.drift)),
    driftChart(revisions.toReversed()),
  );
}
