// History: every revision as a timeline, and the ways back.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { busy, button, count, problemBox } from "../lib/ui.js";
import { driftChart } from "../parts/drift-chart.js";
import { openShelf } from "../parts/edit-shelf.js";
import { moves } from "../parts/moves.js";
import { revisionCard } from "../parts/revision-card.js";
import { figures, driftFigures } from "../parts/scores.js";

export const title = "History";
export const lead =
  "Every change of the model is a revision. None is ever rewritten, and each of them can be in force again.";

const PAGE = 20;

export function mount(root, context) {
  const { api, state, announce } = context;
  const stopping = new AbortController();
  const signal = stopping.signal;
  const shelf = openShelf(api);
  const held = { revisions: [], next: null, active: new Set() };
  const top = h("div", { class: "stack" });
  const told = h("div", { "aria-live": "polite" });
  const list = h("ol", { class: "timeline", reversed: true, "aria-label": "Revisions, newest first" });
  const more = button("Older", () => busy(more, () => guarded(older)), { kind: "quiet" });
  const way = moves({ api, shelf, head: () => held.revisions[0].revision });
  root.append(top, told, list, h("div", { class: "actions" }, more));
  more.hidden = true;

  async function newer() {
    const page = await api.get("/revisions", { limit: PAGE }, { signal });
    const head = held.revisions[0]?.revision ?? -1; // read now: somebody else may have been here meanwhile
    const reaches = page.revisions.some(({ revision }) => revision === head);
    if (!reaches) Object.assign(held, { revisions: page.revisions, next: page.next });
    else held.revisions.unshift(...page.revisions.filter(({ revision }) => revision > head));
    if (page.revision !== null) held.active = new Set((await api.get(`/revisions/${page.revision}`, {}, { signal })).active);
    await show();
  }

  async function older() {
    const page = await api.get("/revisions", { limit: PAGE, before: held.next }, { signal });
    held.revisions.push(...page.revisions);
    held.next = page.next;
    await show();
  }

  async function show() {
    const edits = await shelf.find(held.revisions.map(({ edit }) => edit).filter(Boolean), signal);
    const standing = { head: held.revisions[0]?.revision, active: held.active, idle: !state.ready };
    const focused = document.activeElement?.dataset?.key;
    const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.closest("li").dataset.revision));
    replace(list, held.revisions.map((entry) => revisionCard(entry, edits.get(entry.edit), standing, act)));
    for (const item of list.children) if (open.has(item.dataset.revision)) item.querySelector("details").open = true;
    if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
    replace(top, overview(held));
    more.hidden = held.next === null;
  }

  async function act(verb, argument, pressed) {
    await busy(pressed, async () => {
      try {
        const answer = await way[verb](argument);
        if (answer === null) return;
        const revision = answer.revision.revision ?? answer.revision;
        const words = `r${revision} is the head now.`;
        replace(told, h("p", { class: "note" }, h("strong", null, words), " ", computedWith(answer)));
        announce(words);
        await newer();
        state.refresh();
      } catch (error) {
        if (!isAbort(error)) replace(told, problemBox(error));
      }
    });
    if (!pressed.isConnected) list.querySelector(".is-head h2")?.scrollIntoView({ block: "nearest" });
  }

  async function guarded(work) {
    try {
      await work();
    } catch (error) {
      if (!isAbort(error)) replace(told, problemBox(error));
    }
  }

  guarded(newer);
  const off = state.onChange(() => guarded(newer));
  return () => {
    off();
    stopping.abort();
  };
}

function computedWith({ computed_with_it: others }) {
  if (!others?.length) return null;
  const many = others.length === 1 ? "1 edit in force was" : `${others.length} edits in force were`;
  return `${many} computed while the one that is out was in force, and not measured without it.`;
}

function overview({ revisions }) {
  const [head] = revisions;
  if (!head) return h("p", { class: "muted" }, "There is no revision yet: a worker makes r0 when it first starts.");
  return h(
    "section",
    { class: "card overview", "aria-label": "The head" },
    h("div", null, h("p", { class: "label" }, `r${head.revision} is the head`), h("p", null, `${count(head.active_count, "edit")} in force`)),
    figures(driftFigures(head.drift)),
    driftChart(revisions.toReversed()),
  );
}
