// An edit while it runs: where it waits or how far it is, the loss falling and the target's probability rising.

import { curve } from "./chart.js";
import { h, replace } from "./dom.js";
import { number, percent, progress, seconds, tag } from "./ui.js";

const PHASES = {
  templates: "Sampling contexts",
  statistics: "Collecting key statistics",
  key: "Computing the subject's key",
  keys: "Computing the subjects' keys",
  value: "Optimising the value",
  tune: "Fine-tuning",
  update: "Solving for the new weights",
  measure: "Measuring before and after",
  generate: "Generating before and after",
  drift: "Measuring the drift",
  commit: "Committing",
};

/** `element` and `update(edit)`. */
export function liveEdit() {
  const status = h("div", { class: "row" });
  const bar = progress("Progress of the edit");
  const loss = curve({ label: "Loss", kind: "before", words: (y) => number(y) });
  const probability = curve({ label: "Target probability", kind: "after", most: 1, words: percent });
  const curves = h("div", { class: "curves" }, loss.element, probability.element);
  const element = h("div", { class: "stack" }, status, bar.element, curves);
  let points = [];

  function update(edit) {
    const { progress: at } = edit;
    replace(status, tag(edit.status, edit.status === "running" ? "after" : "plain"), edit.notice && h("span", { class: "muted" }, edit.notice));
    if (edit.status === "queued") bar.update(0, 0, edit.position > 0 ? `Waiting: ${edit.position} before it` : "Waiting for the worker");
    else if (at) bar.update(at.step, at.steps, words(at));
    else bar.update(0, 0, "Starting");
    if (at?.loss !== null && at?.loss !== undefined) add(at);
    curves.hidden = points.length === 0;
  }

  function add({ step, steps, loss: y, target_probability: share }) {
    if (points.length && step < points.at(-1).x) points = []; // begun anew, on another head or with the next fact
    if (points.at(-1)?.x !== step) points.push({ x: step, y, share });
    loss.update(points, steps);
    probability.update(points.map(({ x, share }) => ({ x, y: share ?? 0 })), steps);
  }

  return { element, update };
}

function words({ phase, step, steps, seconds_left: left }) {
  const name = PHASES[phase] ?? phase;
  return [steps ? `${name}: ${step} of ${steps}` : name, left !== null && left !== undefined && `about ${seconds(left)} left`].filter(Boolean).join(" · ");
}
