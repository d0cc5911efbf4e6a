// Facts to start from: those of the project that the resident model really answers at its head.

import { h, replace } from "./dom.js";
import { isAbort } from "./api.js";
import { overwritten } from "./fact-form.js";
import { empty, problemBox } from "./ui.js";

const ASKED = 18;
const TURNS = 3;
const SHOWN = 8;

/** `element`, a list that fills as soon as a worker is ready; `stop()`. `onPick(fact)` is called with the one chosen. */
export function examples({ api, state }, onPick) {
  const list = h("ul", { class: "examples" });
  const place = h("div", null, h("p", { class: "hint" }, "Asking the model what it knows …"));
  const element = h("section", { class: "stack", "aria-label": "Examples" }, h("h2", null, "Facts to start from"), h("p", { class: "muted" }, "The model knows each of these now. Pick one to rewrite it."), list, place);
  const stopping = new AbortController();
  let begun = false;

  const begin = () => {
    if (begun || !state.ready) return;
    begun = true;
    fill().catch((error) => {
      begun = false;
      if (!isAbort(error)) replace(place, problemBox(error));
    });
  };

  async function fill() {
    replace(list);
    const { facts } = await api.get("/examples", { limit: ASKED }, { signal: stopping.signal });
    for (let turn = 0; turn < TURNS && list.childElementCount < SHOWN; turn += 1) {
      // Every turn has some of each kind, so that what comes first is a fair choice already.
      const some = facts.filter((_, index) => index % TURNS === turn);
      const known = some.length ? await knownOf(api, some, stopping.signal) : [];
      list.append(...known.slice(0, SHOWN - list.childElementCount).map((fact) => entry(fact, onPick)));
    }
    replace(place, list.childElementCount === 0 && empty("None of the shipped facts fits", "The resident model does not answer them as expected. Write a fact that it knows."));
  }

  const off = state.onChange(begin);
  begin();
  return {
    element,
    stop: () => {
      off();
      stopping.abort();
    },
  };
}

/** Those of the facts whose target_true the model says first, by itself. */
async function knownOf(api, facts, signal) {
  const asked = { prompt: facts.map(({ prompt }) => prompt), before: "head", after: "head", max_new_tokens: 4 };
  const { results } = await api.post("/generate", asked, { signal });
  return facts.filter((fact, index) => results[index].after.text.trimStart().startsWith(fact.target_true));
}

function entry(fact, onPick) {
  const words = h("span", { class: "example-text" }, fact.prompt, " ", overwritten(fact.target_true, fact.target_new));
  return h("li", null, h("button", { type: "button", class: "example", onclick: () => onPick(fact) }, words));
}
