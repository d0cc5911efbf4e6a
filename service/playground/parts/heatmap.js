// The heat map of one kind of state: a table with a colour for every effect, walked through with the arrow keys.

import { h } from "../lib/dom.js";
import { number } from "../lib/ui.js";
import { tokenText } from "./tokens.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * One panel. effects: {mean, error}, [traced tokens, layers]; onCell({row, layer, kind}) hears which cell is looked at.
 * Colours go from no effect to the largest of the panel; the largest cell is marked by its frame, too.
 */
export function heatmap({ kind, title, result, effects, onCell }) {
  const most = Math.max(...effects.mean.flat(), 1e-9);
  const layers = effects.mean[0].length;
  const token = (row) => tokenText(result.tokens[result.traced[row]]);
  const cells = effects.mean.map((row, at) =>
    row.map((effect, layer) => cellOf({ effect, most, row: at, layer, token })),
  );
  let current = largest(effects.mean);
  cells[current.row][current.layer].tabIndex = 0;

  function look(row, layer, { focus = false, pick = false } = {}) {
    cells[current.row][current.layer].tabIndex = -1;
    current = { row, layer };
    const cell = cells[row][layer];
    cell.tabIndex = 0;
    if (focus) cell.focus();
    if (pick) choose(cells, cell);
    onCell({ kind, row, layer });
  }

  function onKey(event) {
    const { row, layer } = current;
    const far = event.ctrlKey ? [0, cells.length - 1] : [row, row];
    const [down, across] = STEPS[event.key] ?? [];
    if (down !== undefined) look(within(row + down, cells.length), within(layer + across, layers), { focus: true });
    else if (event.key === "Home") look(far[0], 0, { focus: true });
    else if (event.key === "End") look(far[1], layers - 1, { focus: true });
    else if (event.key === "Enter" || event.key === " ") look(row, layer, { pick: true });
    else return;
    event.preventDefault();
  }

  const grid = h(
    "table",
    {
      role: "grid",
      class: ["heatmap", kind],
      "aria-label": `${title}: effect by token and layer; arrow keys move`,
      onkeydown: onKey,
      onmouseover: at((cell) => onCell({ kind, ...cell })),
      onmouseleave: () => onCell({ kind, ...current }),
      onclick: at(({ row, layer }) => look(row, layer, { focus: true, pick: true })),
      onfocusin: at(({ row, layer }) => look(row, layer)),
    },
    rowsOf(cells, result),
  );
  return h("figure", { class: "panel" }, h("figcaption", null, title), grid, legend(kind, result, most));
}

function cellOf({ effect, most, row, layer, token }) {
  return h("td", {
    role: "gridcell",
    tabindex: "-1",
    class: ["heat", effect >= most && "most"],
    "aria-label": `${number(effect, 2)}, layer ${layer}, ${token(row)}`,
    style: { "--share": `${Math.round(Math.max(0, effect / most) * 100)}%` },
    dataset: { row, layer },
  });
}

function choose(cells, chosen) {
  for (const one of cells.flat()) one.removeAttribute("aria-selected");
  chosen.setAttribute("aria-selected", "true");
}

/** A listener that is told the row and the layer of the cell that an event is of; other events are none of its. */
function at(listen) {
  return ({ target }) => {
    const cell = target.closest?.("td.heat");
    if (cell) listen({ row: Number(cell.dataset.row), layer: Number(cell.dataset.layer) });
  };
}

function rowsOf(cells, result) {
  const layers = cells[0].map((_, layer) => h("th", { scope: "col" }, tick(layer, cells[0].length)));
  const rows = cells.map((row, index) => h("tr", null, rowHeader(result, index), row));
  return [h("thead", null, h("tr", null, h("td"), layers)), h("tbody", null, rows)];
}

/** Where the largest effect is. */
export function largest(mean) {
  let found = { row: 0, layer: 0 };
  for (const [row, effects] of mean.entries())
    for (const [layer, effect] of effects.entries()) if (effect > mean[found.row][found.layer]) found = { row, layer };
  return found;
}

function within(index, length) {
  return Math.min(Math.max(index, 0), length - 1);
}

/** About six numbers stand below the layers. */
function tick(layer, layers) {
  const step = Math.max(1, Math.round(layers / 6));
  return h("span", { class: layer % step !== 0 && "visually-hidden" }, layer);
}

function rowHeader(result, row) {
  const at = result.traced[row];
  const inSubject = at >= result.subject[0] && at < result.subject[1];
  const star = inSubject && [
    h("span", { "aria-hidden": "true" }, "*"),
    h("span", { class: "visually-hidden" }, " (subject)"),
  ];
  return h(
    "th",
    { scope: "row", class: inSubject && "in-subject" },
    h("span", { class: "token" }, tokenText(result.tokens[at])),
    star,
  );
}

function legend(kind, { low }, most) {
  return h(
    "div",
    { class: "scale" },
    h("span", null, number(low, 2)),
    h("span", { class: ["scale-bar", kind], "aria-hidden": "true" }),
    h("span", null, number(low + most, 2)),
    h("span", { class: "scale-name" }, "probability of the answer"),
  );
}
