// What runs and what waits, of all kinds of jobs, looked at again and again.

import { isAbort, pause } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { count, problemBox, relativeTime, table, tag } from "../lib/ui.js";
import { editText } from "./fact-text.js";
import { hasEnded, standing } from "./job-watch.js";

const AGAIN_MS = 3000;
const SEEN = 50;
const KINDS = ["edits", "evaluations", "traces", "benchmarks"];

/** Keeps the place as the line is, until the signal says stop. */
export async function watchLine(api, state, place, signal) {
  while (!signal.aborted) {
    try {
      if (state.online && !state.locked && !document.hidden) replace(place, lineOf(await waiting(api, signal)));
      await pause(AGAIN_MS, signal);
    } catch (error) {
      if (isAbort(error)) return;
      if (error.status !== 0) replace(place, problemBox(error)); // 0: the banner says so
      await pause(AGAIN_MS, signal).catch(() => {});
    }
  }
}

/** `{kind, job}` each, next or running first. */
async function waiting(api, signal) {
  // The newest of each kind, because a list by status would read the whole history each time.
  const lists = KINDS.map(async (kind) => {
    const page = await api.get(`/${kind}`, { limit: SEEN }, { signal });
    return page[kind].filter((job) => !hasEnded(job)).map((job) => ({ kind, job }));
  });
  const jobs = (await Promise.all(lists)).flat();
  return jobs.sort((one, other) => (one.job.position ?? 0) - (other.job.position ?? 0));
}

function lineOf(jobs) {
  if (jobs.length === 0) return h("p", { class: "muted" }, "Nothing runs and nothing waits.");
  const rows = jobs.map(({ kind, job }) => [
    whatOf(kind, job),
    tag(job.status, job.status === "running" ? "after" : "plain"),
    standing(job).words,
    relativeTime(job.created_at),
  ]);
  const running = jobs.filter(({ job }) => job.status === "running").length;
  const caption = `${count(running, "job")} running, ${jobs.length - running} waiting`;
  return table(
    caption,
    ["Job", "Status", "How far", "Asked for"].map((label) => ({ label })),
    rows,
  );
}

function whatOf(kind, job) {
  if (kind === "edits") return editText(job.id, job);
  if (kind === "traces")
    return [h("span", { class: "muted" }, "Trace: "), h("a", { href: `#/trace?id=${job.id}` }, job.request.prompt)];
  if (kind === "benchmarks")
    return [
      h("span", { class: "muted" }, "Benchmark: "),
      h("a", { href: "#/benchmarks" }, job.request.dataset ?? "palimpsest"),
    ];
  return "Evaluation";
}
