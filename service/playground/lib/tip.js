// The numbers of a token, beside it: its probability, its log-probability, and the likeliest tokens in its place.

import { h, replace } from "./dom.js";
import { percent } from "./format.js";
import { uniqueId } from "./ui.js";

/** `element`, to be put into a positioned container; `show(token, {text, logprob, top})`, or `show(null)`. */
export function tokenTip() {
  const element = h("div", { class: "tip", role: "tooltip", id: uniqueId("tip"), hidden: true });
  let described = null;

  function show(token, details) {
    described?.removeAttribute("aria-describedby");
    described?.classList.remove("shown");
    described = token;
    element.hidden = !token;
    if (!token) return;
    token.setAttribute("aria-describedby", element.id);
    token.classList.add("shown");
    replace(element, lines(details));
    place(element, token);
  }

  return { element, show };
}

function lines({ text, logprob, top }) {
  const row = ({ token, logprob: one }) =>
    h("tr", { class: one === logprob && token.trim() === text.trim() && "chosen" }, h("td", null, visible(token)), h("td", { class: "numeric" }, percent(Math.exp(one))), h("td", { class: "numeric muted" }, one.toFixed(2)));
  const own = h("p", null, h("strong", null, visible(text)), ` ${percent(Math.exp(logprob))}, log-probability ${logprob.toFixed(3)}`);
  return [own, top.length > 0 && h("table", { role: "presentation" }, h("tbody", null, top.map(row)))];
}

/** White space made visible, so that " Rome" is not "Rome". */
function visible(text) {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "(nothing)";
}

function place(element, token) {
  const frame = element.offsetParent.getBoundingClientRect();
  const [at] = token.getClientRects();
  if (!at) return;
  const left = Math.min(at.left - frame.left, frame.width - element.offsetWidth);
  element.style.setProperty("left", `${Math.max(0, left)}px`);
  element.style.setProperty("top", `${at.bottom - frame.top + 6}px`);
}
