// One side of a comparison: the text token by token, each with its probability and what else might have been said.

import { h, replace, set } from "./dom.js";
import { percent } from "./format.js";

const BROKEN = "\ufffd"; // what a part of a character is written as

/**
 * `element`; `add(piece)`: more tokens (of a GeneratedPiece); `finish(continuation)`: all of them, as they ended;
 * `mark(index)`: where the sides part; `ids`: what was said so far. `onShow(token, details)` is called with the token
 * that is pointed at or focused, and null when none is.
 */
export function tokenLine({ label, prompt, onShow }) {
  const given = h("span", { class: "given" }, prompt);
  const said = h("span", { role: "listbox", "aria-label": label, "aria-orientation": "horizontal" });
  const caret = h("span", { class: "caret", "aria-hidden": "true" });
  const element = h("p", { class: "tokens" }, given, said, caret);
  const details = [];
  const ids = [];
  let parting = null;

  function add({ tokens, token_ids, logprobs, top_logprobs: top }) {
    const from = details.length;
    ids.push(...token_ids);
    details.push(...tokens.map((text, index) => ({ text, logprob: logprobs[index], top: top?.[index] ?? [] })));
    said.append(...details.slice(from).map((one, index) => token(one, from + index)));
    said.hidden = false;
  }

  function finish(continuation) {
    details.length = 0;
    ids.length = 0;
    replace(said);
    add({ ...continuation, tokens: aligned(continuation.text, continuation.tokens).map(({ text }) => text) });
    aligned(continuation.text, continuation.tokens).forEach(({ text, outside }, index) => {
      said.children[index].classList.toggle("outside", outside || text === "");
    });
    caret.remove();
    if (parting !== null) mark(parting);
  }

  function token({ text, logprob }, index) {
    const chance = Math.exp(logprob);
    return h("span", { class: "token", role: "option", tabindex: index === 0 ? "0" : "-1", "aria-selected": "false", "aria-label": `${text.trim() || "white space"}, ${percent(chance)}`, dataset: { index }, style: { "--doubt": String(1 - chance) } }, text || "·");
  }

  function mark(index) {
    parting = index;
    for (const one of said.querySelectorAll(".parts")) one.classList.remove("parts");
    said.children[index]?.classList.add("parts");
  }

  const tokenOf = (event) => event.target.closest?.(".token");
  const show = (one) => onShow(one, one && details[Number(one.dataset.index)]);
  said.addEventListener("pointerover", (event) => tokenOf(event) && show(tokenOf(event)));
  said.addEventListener("pointerleave", () => show(said.contains(document.activeElement) ? document.activeElement : null));
  said.addEventListener("focusin", (event) => {
    for (const one of said.querySelectorAll('[tabindex="0"]')) set(one, { tabindex: "-1", "aria-selected": "false" });
    set(event.target, { tabindex: "0", "aria-selected": "true" });
    show(event.target);
  });
  said.addEventListener("focusout", () => show(null));
  said.addEventListener("keydown", (event) => {
    const next = neighbour(event.key, event.target, said);
    if (event.key === "Escape") show(null);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  said.hidden = true; // an empty list of options is none

  return { element, add, finish, mark, ids, stop: () => caret.remove() };
}

function neighbour(key, token, said) {
  return { ArrowRight: token.nextElementSibling, ArrowDown: token.nextElementSibling, ArrowLeft: token.previousElementSibling, ArrowUp: token.previousElementSibling, Home: said.firstElementChild, End: said.lastElementChild }[key] ?? null;
}

/**
 * The tokens as they stand in the text, `{text, outside}` each. Where characters are spread over several tokens the
 * first of these has them all; `outside` are tokens that the text leaves out, such as its end.
 */
export function aligned(text, tokens) {
  let at = 0;
  return tokens.map((token, index) => {
    if (token.includes(BROKEN)) {
      const end = nextClean(text, at, tokens, index);
      const part = text.slice(at, end);
      at = end;
      return { text: part, outside: false };
    }
    const found = at === 0 && !text.startsWith(token) ? token.trimStart() : token;
    if (found && text.startsWith(found, at)) {
      at += found.length;
      return { text: token, outside: false };
    }
    return { text: token, outside: at >= text.length };
  });
}

/** Where in the text the first whole token after `index` stands; the text's end if there is none. */
function nextClean(text, at, tokens, index) {
  const whole = tokens.slice(index + 1).find((token) => token && !token.includes(BROKEN));
  const found = whole === undefined ? -1 : text.indexOf(whole, at);
  return found < 0 ? text.length : found;
}
