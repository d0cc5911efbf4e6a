// A benchmark as the list shows it: what was compared, how far it is, its main scores with intervals, its report.

import { h } from "../lib/dom.js";
import { count, percent, relativeTime, seconds, table, tag } from "../lib/ui.js";
import { fileLink } from "./file-link.js";
import { MEANINGS } from "./scores.js";

const SCORES = ["EA", "PA", "neighborhood_acc", "S"];
const FORMATS = [
  ["md", "Markdown", "md"],
  ["json", "JSON", "json"],
  ["easyedit", "EasyEdit's shape", "json"],
];

/** benchmark: as the lists have it; watched: what shows its progress, or null. */
export function benchmarkCard(benchmark, watched) {
  const { id, status, request, result, problem, created_at: at } = benchmark;
  return h(
    "article",
    { class: "card stack benchmark", "aria-labelledby": `b-${id}`, "data-benchmark": id },
    h(
      "header",
      null,
      h("h3", { id: `b-${id}` }, `${request.methods.map(nameOf).join(", ")} on ${request.dataset ?? "palimpsest"}`),
      tag(status, { completed: "good", failed: "bad", running: "after" }[status] ?? "plain"),
      h("span", { class: "meta" }, relativeTime(at)),
    ),
    h("p", { class: "muted small" }, setting(request)),
    watched,
    problem && h("p", { class: "problem" }, problem.detail),
    result && scores(id, result),
    result && reports(id),
  );
}

function nameOf(choice) {
  const changed = Object.keys(choice.hparams ?? {}).length;
  return changed ? `${choice.method} (${count(changed, "change")})` : choice.method;
}

function setting({ n, mode, batch_size: size, known_only: known, revision, seed }) {
  const parts = [`${count(n ?? 100, "record")} at most`, mode ?? "single", `on ${revision ?? "base"}`];
  if (size) parts.push(`${count(size, "record")} an edit`);
  if (known) parts.push("known ones only");
  if (seed != null) parts.push(`drawn with seed ${seed}`);
  return parts.join(" · ");
}

function scores(id, { methods }) {
  const there = SCORES.filter((name) => methods.some(({ summary }) => summary?.after[name] != null));
  const columns = ["Method", ...there.map((name) => MEANINGS[name][0]), "Time an edit", "Records"];
  const rows = methods.map(({ label, summary, scored, failed, seconds_per_edit: time }) => [
    label,
    ...there.map((name) => withInterval(summary?.after, name)),
    seconds(time),
    failed ? `${scored}, ${failed} failed` : scored,
  ]);
  return table(
    `Scores with 95 % intervals, benchmark ${id}`,
    columns.map((label, at) => ({ label, numeric: at > 0 })),
    rows,
  );
}

function withInterval(summary, name) {
  if (summary?.[name] == null) return "–";
  const [low, high] = summary.ci95?.[name] ?? [];
  const interval = low === undefined ? "" : ` [${plain(low)}, ${plain(high)}]`;
  return [percent(summary[name]), h("span", { class: "muted interval" }, interval)];
}

function plain(share) {
  return (100 * share).toFixed(0);
}

function reports(id) {
  const link = (format, label, ending, kind) =>
    fileLink(label, `benchmarks/${id}/report?format=${format}`, { name: `benchmark-${id}.${ending}`, kind });
  return h(
    "p",
    { class: "actions" },
    link("html", "Open the report", "html", "plain"),
    FORMATS.map(([format, label, ending]) => link(format, label, ending, "quiet")),
  );
}
