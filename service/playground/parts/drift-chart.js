// A line of the perplexity ratio over revisions, so that a collapse is seen coming.

import { h, svg } from "../lib/dom.js";

const WIDTH = 600;
const HEIGHT = 90;
const EDGE = 8;

/** revisions: oldest first. Null where fewer than two have been measured. */
export function driftChart(revisions) {
  const points = revisions
    .filter(({ drift }) => drift)
    .map(({ revision, drift }) => [revision, drift.perplexity_ratio]);
  if (points.length < 2) return null;
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(1, ...values), Math.max(1.02, ...values)];
  const x = (revision) => EDGE + ((revision - first) / (last - first)) * (WIDTH - 2 * EDGE);
  const y = (value) => HEIGHT - EDGE - ((value - low) / (high - low)) * (HEIGHT - 2 * EDGE);
  const path = points.map(([revision, value]) => `${x(revision).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const what = `Perplexity of neutral sentences, r${first} to r${last}, over the base's`;
  const said = `${what}: now × ${values.at(-1).toFixed(3)}, at most × ${high.toFixed(3)}`;
  return h(
    "figure",
    { class: "drift" },
    h("figcaption", { class: "muted small" }, `${what}: × ${low.toFixed(2)} to × ${high.toFixed(2)}`),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said, preserveAspectRatio: "none" },
      svg("line", { x1: 0, x2: WIDTH, y1: y(1), y2: y(1), class: "drift-base" }),
      svg("polyline", { points: path, class: "drift-line" }),
    ),
  );
}
