// How tokens are chosen: only what was changed is sent, and put into the address.

import { h } from "./dom.js";
import { field } from "./ui.js";

const OPTIONS = [
  { name: "max_new_tokens", label: "New tokens", usual: 32, hint: "At most, on each side." },
  { name: "temperature", label: "Temperature", usual: 0, hint: "0 always takes the likeliest token." },
  { name: "top_p", label: "Top p", usual: 1, hint: "Share of the probability that is drawn from." },
  { name: "top_k", label: "Top k", usual: null, hint: "How many of the likeliest are drawn from." },
  { name: "repetition_penalty", label: "Repetition penalty", usual: 1, hint: "Above 1, words already said are avoided." },
  { name: "seed", label: "Seed", usual: null, hint: "Drawn where left empty, and told." },
];

/** `element`, a closed section of fields; `read()`: the options that were set; `set(name, value)`. */
export function samplingForm(params) {
  const inputs = OPTIONS.map(({ name, usual }) => h("input", { inputmode: "decimal", placeholder: usual ?? "none", value: params.get(name) ?? "" }));
  const stop = h("input", { spellcheck: "false", placeholder: "none", value: params.get("stop") ?? "" });
  const element = h(
    "details",
    { open: OPTIONS.some(({ name }) => params.has(name)) || params.has("stop") },
    h("summary", null, "Sampling"),
    h(
      "div",
      { class: "grid narrow" },
      OPTIONS.map(({ name, label, hint }, index) => field(label, inputs[index], { name, hint })),
      field("Stop before", stop, { name: "stop", hint: "Ends the text before these words." }),
    ),
  );

  function read() {
    const set = OPTIONS.map(({ name }, index) => [name, inputs[index].value.trim()]).filter(([, text]) => text);
    // What is no number goes to the service as it is, which says what is wrong with it.
    const options = Object.fromEntries(set.map(([name, text]) => [name, Number.isNaN(Number(text)) ? text : Number(text)]));
    return stop.value ? { ...options, stop: [stop.value] } : options;
  }

  return {
    element,
    read,
    set: (name, value) => {
      inputs[OPTIONS.findIndex((option) => option.name === name)].value = String(value);
    },
  };
}
