// A curve that grows while something runs: an inline SVG, and its last value in words.

import { h, replace, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 96;
const GROUND = HEIGHT - 4;
const SIDE = 4;

/**
 * A chart of one quantity over steps. `kind` picks its hue ("before", "after"), `most` fixes the top of its scale,
 * `words(y)` says a value for people.
 *
 * `update(points, steps)`: points {x, y} in order of x, which goes from 1 to `steps`.
 */
export function curve({ label, kind, most, words }) {
  const line = svg("path", { class: "line" });
  const area = svg("path", { class: "area" });
  const ground = svg("path", { class: "ground", d: `M0 ${GROUND}H${WIDTH}` });
  const value = h("output", { class: "curve-value" });
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" }, ground, area, line);
  const element = h("figure", { class: ["curve", kind] }, h("figcaption", null, h("span", null, label), value), plot);

  function update(points, steps) {
    const said = points.length ? words(points.at(-1).y) : "";
    replace(value, said);
    plot.setAttribute("aria-label", `${label}: ${said || "nothing yet"}`);
    const top = most ?? Math.max(1e-9, ...points.map(({ y }) => y));
    const places = points.map(({ x, y }) => [along(x, steps), GROUND - share(y, top) * (GROUND - SIDE)]);
    const path = places.map((place, index) => `${index ? "L" : "M"}${place.map((at) => at.toFixed(1)).join(" ")}`).join("");
    line.setAttribute("d", path);
    const closed = places.length > 1 && `${path}V${GROUND}H${places[0][0].toFixed(1)}Z`;
    area.setAttribute("d", closed || "");
  }

  return { element, update };
}

function along(x, steps) {
  return SIDE + share(x - 1, Math.max(1, steps - 1)) * (WIDTH - 2 * SIDE);
}

function share(value, most) {
  return Math.min(Math.max(value, 0), most) / most;
}
