// Compare: one prompt under two revisions, side by side as they are spoken, marked where they part.

import { isAbort } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { revisionSelect } from "../lib/revisions.js";
import { samplingForm } from "../lib/sampling.js";
import { tokenTip } from "../lib/tip.js";
import { tokenLine } from "../lib/tokens.js";
import { button, clearProblems, field, number, percent, showProblem } from "../lib/ui.js";

export const title = "Before and after";
export const lead = "The same prompt, continued by any two revisions at once. Point at a word to see how sure each was, and what else it might have said.";

const SIDES = ["before", "after"];
const ALTERNATIVES = 5;

/** Builds the view; everything that was asked stands in the address, and is asked again when that is opened. */
export function mount(root, context) {
  const { api, params, announce, navigate } = context;
  const prompt = h("textarea", { class: "serif", rows: 3, required: true, spellcheck: "false", placeholder: "The Eiffel Tower is located in the city of", value: params.get("prompt") ?? "" });
  const revisions = { before: revisionSelect(api, params.get("before") ?? "base"), after: revisionSelect(api, params.get("after") ?? "head") };
  const sampling = samplingForm(params);
  const problems = h("div");
  const ask = button("Ask both", null, { kind: "primary", type: "submit" });
  const stop = button("Stop", () => running?.abort(), { kind: "danger", hidden: true });
  const share = button("Copy the link", copy, { kind: "quiet" });
  const form = h(
    "form",
    { class: "card stack", novalidate: true, "aria-label": "What to ask" },
    field("Prompt", prompt, { name: "prompt", hint: "Several lines are one prompt. Ctrl and Enter asks." }),
    h("div", { class: "grid" }, field("Before", revisions.before.element, { name: "before" }), field("After", revisions.after.element, { name: "after" })),
    sampling.element,
    problems,
    h("div", { class: "actions" }, ask, stop, share),
  );
  const answer = h("section", { class: "stack", "aria-label": "Both answers" });
  const leaving = new AbortController();
  let running = null;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  async function run() {
    running?.abort();
    const mine = (running = new AbortController());
    clearProblems(form, problems);
    navigate("compare", wanted(), { quiet: true });
    const shown = comparison(prompt.value);
    replace(answer, shown.element);
    ask.hidden = true;
    stop.hidden = false;
    try {
      await api.stream("/generate", { ...wanted(), prompt: [prompt.value], stream: true, top_logprobs: ALTERNATIVES }, { signal: mine.signal, onEvent: (event) => heard(event, shown) });
    } catch (error) {
      shown.stop();
      if (!isAbort(error)) {
        replace(answer);
        showProblem(form, problems, error);
      } else if (mine === running) announce("Stopped.");
    } finally {
      if (mine === running) {
        ask.hidden = false;
        stop.hidden = true;
      }
    }
  }

  function heard({ event, data }, shown) {
    if (event === "piece") shown.add(data);
    if (event !== "done") return;
    shown.finish(data.results[0], data.seconds);
    announce(SIDES.map((side) => `${side}: ${data.results[0][side].text}`).join(". "));
    if (sampling.read().temperature) {
      // The seed that was drawn belongs to what is shared: only with it will the link say the same.
      sampling.set("seed", data.seed);
      navigate("compare", wanted(), { quiet: true });
    }
  }

  function wanted() {
    return { prompt: prompt.value, before: revisions.before.element.value, after: revisions.after.element.value, ...sampling.read() };
  }

  async function copy() {
    navigate("compare", wanted(), { quiet: true });
    try {
      await navigator.clipboard.writeText(location.href);
      announce("The link is copied.");
      replace(share, "Copied");
      setTimeout(() => replace(share, "Copy the link"), 2000);
    } catch {
      announce("The link is the page's address.");
      replace(share, "It is the page's address");
    }
  }

  const fill = () => Promise.all(SIDES.map((side) => revisions[side].fill(leaving.signal))).catch(() => {}); // base and head can be asked all the same
  let head = context.state.model?.revision;
  const off = context.state.onChange(() => {
    if (context.state.model?.revision === head) return;
    head = context.state.model?.revision;
    fill();
  });
  root.append(h("div", { class: "stack compare" }, form, answer));
  fill();
  if (prompt.value) run();
  return () => {
    off();
    leaving.abort();
    running?.abort();
  };
}

/** Both sides of one prompt, as they come. */
function comparison(prompt) {
  const tip = tokenTip();
  const revision = Object.fromEntries(SIDES.map((side) => [side, h("span", { class: "mono" })]));
  const lines = Object.fromEntries(SIDES.map((side) => [side, tokenLine({ label: `Tokens ${side}`, prompt, onShow: tip.show })]));
  const cards = SIDES.map((side) => h("article", { class: ["said", side] }, h("h3", null, side === "before" ? "Before " : "After ", revision[side]), lines[side].element));
  const verdict = h("p", { class: "muted" });
  const element = h("div", { class: "stack" }, h("div", { class: "compare-grid" }, cards, tip.element), verdict);

  function mark(index) {
    if (index !== null) for (const side of SIDES) lines[side].mark(index);
  }

  return {
    element,
    add(piece) {
      replace(revision[piece.side], `r${piece.revision}`);
      lines[piece.side].add(piece);
      mark(parting(lines.before.ids, lines.after.ids));
    },
    finish(result, seconds) {
      for (const side of SIDES) {
        replace(revision[side], `r${result[side].revision}`);
        lines[side].finish(result[side]);
      }
      mark(result.parts_at);
      replace(verdict, words(result), ` ${number(seconds, 2)} s.`);
    },
    stop: () => SIDES.forEach((side) => lines[side].stop()),
  };
}

/** The first token in which the two differ, as far as both have spoken. */
function parting(before, after) {
  const most = Math.min(before.length, after.length);
  for (let index = 0; index < most; index += 1) if (before[index] !== after[index]) return index;
  return null;
}

function words({ parts_at: at, before, after }) {
  if (at === null) return "Both say the same.";
  const said = (side) => (at < side.tokens.length ? `“${side.tokens[at].trim()}” (${percent(Math.exp(side.logprobs[at]))})` : "nothing more");
  return ["They part at token ", String(at + 1), ": ", h("strong", { class: "before" }, said(before)), " before, ", h("strong", { class: "after" }, said(after)), " after."];
}
