// The pane beside the form: one edit, live while it runs, then what came of it and what can be done with it.

import { isAbort } from "./api.js";
import { h, replace } from "./dom.js";
import { liveEdit } from "./live.js";
import { answers, factSentence, numbers } from "./outcome.js";
import { hashOf } from "./router.js";
import { busy, button, confirm, count, problemBox, tag } from "./ui.js";

const GOOD = ["applied", "measured"];
const TITLES = {
  queued: () => "In line",
  running: () => "Rewriting",
  applied: ({ revision }) => `Applied as r${revision}`,
  measured: () => "Measured; nothing was committed",
  rejected: () => "Rejected: it misses what was required",
  failed: () => "It failed",
  cancelled: () => "Cancelled",
  reverted: ({ revision }) => `Applied as r${revision}, and taken out again`,
};

/** `element`; `watch(id)` shows an edit from now until it ends, then its outcome; `stop()`. */
export function resultPane({ api, announce, state }, onAgain) {
  const heading = h("h2", { tabindex: "-1" });
  const fact = h("div");
  const body = h("div", { class: "stack" });
  const actions = h("div", { class: "actions" });
  const details = h("div", { class: "stack" });
  const messages = h("div", { class: "stack" });
  const element = h("section", { class: "card stack result", "aria-label": "The edit" }, heading, fact, messages, body, actions, details);
  let watching = new AbortController();

  async function watch(id) {
    watching.abort();
    watching = new AbortController();
    const { signal } = watching;
    for (const part of [messages, body, details]) replace(part);
    try {
      const edit = await follow(id, signal);
      if (!signal.aborted) showEnd(edit);
    } catch (error) {
      if (isAbort(error)) return;
      replace(heading, "The edit");
      replace(actions, button("Start another", onAgain));
      replace(messages, problemBox(error));
    }
  }

  async function follow(id, signal) {
    const live = liveEdit();
    let phase = null;
    const onEvent = (edit) => {
      if (!body.contains(live.element)) begin(edit, live);
      head(edit);
      live.update(edit);
      if (edit.progress?.phase !== phase) announce(edit.progress ? `${edit.status}: ${edit.progress.phase}` : edit.status);
      phase = edit.progress?.phase;
    };
    await api.events(`/edits/${encodeURIComponent(id)}/events`, { signal, onEvent });
    return api.get(`/edits/${encodeURIComponent(id)}`, {}, { signal });
  }

  function begin(edit, live) {
    replace(body, live.element);
    const cancel = button("Cancel", () => busy(cancel, () => attempt(() => api.del(`/edits/${edit.id}`))), { kind: "danger" });
    replace(actions, cancel);
  }

  function head(edit) {
    replace(heading, TITLES[edit.status](edit));
    const [first] = edit.request.facts ?? [edit.request];
    replace(fact, factSentence(first), edit.fact_count > 1 && h("p", { class: "muted" }, `and ${count(edit.fact_count - 1, "more fact")}`));
  }

  function showEnd(edit) {
    head(edit);
    const { problem, outcome } = edit;
    replace(body, problem && problemBox({ problem }), outcome && answers(outcome), !problem && !outcome && h("p", { class: "muted" }, "The model is as it was."));
    replace(details, outcome && numbers(edit));
    replace(actions, ending(edit));
    announce(`${TITLES[edit.status](edit)}.`);
    state.refresh();
  }

  function ending(edit) {
    const [{ prompt, subject }] = edit.request.facts ?? [edit.request];
    const made = edit.revision !== null;
    const revert = button("Revert", () => toggle(edit, revert, "revert"), { kind: "danger" });
    const reapply = button("Put it back", () => toggle(edit, reapply, "reapply"));
    return [
      made && h("a", { class: "button primary", href: hashOf("compare", { prompt, before: "base", after: `r${edit.revision}` }) }, "Compare before and after"),
      edit.status === "applied" && revert,
      edit.status === "reverted" && reapply,
      made && h("a", { class: "button", href: hashOf("trace", { prompt, subject, revision: edit.revision }) }, "Trace"),
      button(GOOD.includes(edit.status) ? "Rewrite another" : "Back to the examples", onAgain, { kind: "quiet" }),
    ];
  }

  async function toggle(edit, control, what) {
    const question = { title: "Revert this edit?", body: h("p", null, "A new revision is made without it. All later edits stay, and nothing is deleted: it can be put back."), action: "Revert", danger: true };
    if (what === "revert" && !(await confirm(question))) return;
    await busy(control, () =>
      attempt(async () => {
        const answer = await api.post(`/edits/${edit.id}/${what}`);
        const revision = answer.revision.revision ?? answer.revision;
        showEnd(await api.get(`/edits/${edit.id}`));
        replace(messages, h("p", { class: "note", role: "status" }, tag(`r${revision}`, "after"), " ", what === "revert" ? `made without it. ${answer.notice}` : "made with it in force again."));
      }),
    );
  }

  async function attempt(work) {
    replace(messages);
    try {
      await work();
    } catch (error) {
      replace(messages, problemBox(error));
    }
  }

  return { element, heading, watch, stop: () => watching.abort() };
}
