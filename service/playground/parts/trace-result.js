// What a trace found: its answer, three heat maps, and the numbers of the cell that is looked at.

import { h, replace } from "../lib/dom.js";
import { count, number, percent, tag } from "../lib/ui.js";
import { fileLink } from "./file-link.js";
import { heatmap, largest } from "./heatmap.js";
import { tokenText } from "./tokens.js";

const KINDS = ["hidden", "mlp", "attn"];
const TITLES = {
  hidden: () => "One hidden state restored",
  mlp: (window) => `${count(window, "MLP output")} restored`,
  attn: (window) => `${count(window, "attention output")} restored`,
};

/** The whole result; null where the trace has none. */
export function traceResult(trace) {
  const { result } = trace;
  if (!result) return null;
  const kinds = KINDS.filter((kind) => result.effects[kind]);
  const detail = h("p", { class: "cell-detail" });
  const onCell = ({ kind, row, layer }) => replace(detail, sentenceOf(result, kind, row, layer));
  const panels = kinds.map((kind) =>
    heatmap({ kind, title: TITLES[kind](result.window), result, effects: result.effects[kind], onCell }),
  );
  onCell({ kind: kinds[0], ...largest(result.effects[kinds[0]].mean) });
  return h(
    "section",
    { class: "trace-result", "aria-labelledby": "trace-heading" },
    h("h2", { id: "trace-heading" }, result.tokens.join("").trim(), " ", h("span", { class: "answer" }, result.target)),
    answer(trace),
    h("div", { class: "panels" }, panels),
    detail,
    h("p", { class: "actions" }, picture(trace, "png"), picture(trace, "svg"), numbers(trace)),
  );
}

function answer({ request, result }) {
  const asked = request.samples ?? 10;
  return h(
    "p",
    { class: "trace-answer" },
    `At r${result.revision} the answer has a probability of `,
    h("strong", null, percent(result.high)),
    ", and of ",
    h("strong", null, percent(result.low)),
    ` with noise on the subject (${count(asked, "sample")}). `,
    !result.known && tag("not what the model says by itself", "warn"),
  );
}

function sentenceOf(result, kind, row, layer) {
  const at = result.traced[row];
  const effects = result.effects[kind];
  const effect = effects.mean[row][layer];
  const error = effects.error?.[row][layer];
  const inSubject = at >= result.subject[0] && at < result.subject[1];
  const state = { hidden: "the hidden state", mlp: "the MLPs' outputs", attn: "the attention's outputs" }[kind];
  const where = kind === "hidden" ? `behind layer ${layer}` : `around layer ${layer}`;
  return [
    h("strong", null, tokenText(result.tokens[at])),
    inSubject && " (subject)",
    `, ${where}: restoring ${state} brings the answer from ${number(result.low)} to `,
    h("strong", null, number(result.low + effect)),
    `, an effect of ${number(effect)}${error == null ? "" : ` ± ${number(error, 2)}`}.`,
  ];
}

function picture({ id, result }, form) {
  const name = `trace-${id}-r${result.revision}.${form}`;
  return fileLink(`Picture (${form.toUpperCase()})`, `traces/${id}.${form}`, { name, opens: false });
}

function numbers({ id }) {
  return fileLink("The numbers (JSON)", `traces/${id}`, { name: `trace-${id}.json` });
}
