// A job on its way: its place in the line, phase, steps and time left, with a button that cancels it.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { busy, button, count, percent, problemBox, progress, seconds } from "../lib/ui.js";

/** Whether nothing more will happen to the job by itself. */
export function hasEnded(job) {
  return !["queued", "running"].includes(job.status);
}

/**
 * Follows a job until it has ended; `onEnd(job)` gets it as the events tell it. kind: "edits", "traces", "benchmarks".
 * The element shows how it stands, by itself or on a `display` ({element, update(job)}); what stops it is the signal.
 * announce: says its status.
 */
export function watchJob({ api, kind, id, label, signal, announce, onEnd, display = barOf(label) }) {
  const trouble = h("div");
  const cancel = button("Cancel", () => busy(cancel, stop), { kind: "quiet" });
  const element = h("div", { class: "job" }, display.element, h("div", { class: "actions" }, cancel), trouble);
  let said = "";

  async function stop() {
    try {
      await api.del(`/${kind}/${id}`);
      announce("Cancelling");
    } catch (error) {
      if (error.status !== 409) replace(trouble, problemBox(error)); // 409: it has ended by itself
    }
  }

  function show(job) {
    display.update(job);
    if (job.status !== said) announce(`${label}: ${job.status}`); // phases change too often to be read out
    said = job.status;
  }

  api
    .events(`/${kind}/${id}/events`, { signal, onEvent: show })
    .then(onEnd)
    .catch((error) => isAbort(error) || replace(trouble, problemBox(error)));
  return element;
}

function barOf(label) {
  const bar = progress(label);
  const notice = h("p", { class: "job-notice" });
  bar.update(0, 0, "waiting for the first word");
  const update = (job) => {
    const { value, max, words } = standing(job);
    bar.update(value, max, words);
    replace(notice, job.notice);
  };
  return { element: h("div", { class: "stack" }, bar.element, notice), update };
}

/** `{value, max, words}` of a progress bar. */
export function standing({ status, position, progress: at }) {
  if (status === "queued")
    return { words: position ? `waiting in line behind ${count(position, "job")}` : "next in line" };
  if (status !== "running" || !at) return { words: status };
  const words = [phaseName(at.phase)];
  if (at.steps) words.push(`${at.step} of ${at.steps}`);
  if (at.target_probability != null) words.push(`target ${percent(at.target_probability)}`);
  if (at.seconds_left != null) words.push(`about ${seconds(at.seconds_left)} left`);
  return { value: at.step, max: at.steps, words: words.join(" · ") };
}

function phaseName(phase) {
  return phase.replaceAll("_", " ");
}
