// The form that asks for a trace; what is selected in the prompt becomes the subject.

import { h } from "../lib/dom.js";
import { revisionSelect } from "../lib/revisions.js";
import { busy, button, field } from "../lib/ui.js";
import { jobSender } from "./job-sender.js";

const EXAMPLES = [
  ["The Eiffel Tower is located in the city of", "The Eiffel Tower"],
  ["The Colosseum is in the city of", "The Colosseum"],
  ["Kyoto University is located in the country of", "Kyoto University"],
];

/** `{element, fill}`: onAsked(trace) gets what the service has queued; fill(request) puts an earlier request in it. */
export function traceForm(context, signal, onAsked) {
  const { api, params } = context;
  const sender = jobSender(context, "/traces", signal);
  const revisions = revisionSelect(api, params.get("revision") ?? "head");
  const inputs = {
    prompt: h("textarea", { rows: 2, required: true, value: params.get("prompt") ?? "" }),
    subject: h("input", { type: "text", required: true, value: params.get("subject") ?? "" }),
    target: h("input", { type: "text", value: params.get("target") ?? "" }),
    revision: revisions.element,
    samples: h("input", { type: "number", min: 1, max: 100, value: 10 }),
  };
  const trouble = h("div");
  const submit = button("Trace it", null, { kind: "primary", type: "submit" });
  const fill = (request) => {
    for (const name of ["prompt", "subject", "target"]) inputs[name].value = request[name] ?? "";
    inputs.samples.value = request.samples ?? 10;
    revisions.choose(request.revision ?? "head");
  };
  const form = h(
    "form",
    {
      class: "card trace-form",
      novalidate: true,
      onsubmit: (event) => void (event.preventDefault(), busy(submit, send)),
    },
    field("Prompt", inputs.prompt, { name: "prompt", hint: "It ends where the answer begins." }),
    h(
      "div",
      { class: "fields" },
      field("Subject", inputs.subject, { name: "subject", hint: "Verbatim from the prompt: select it there." }),
      field("Answer", inputs.target, { name: "target", optional: true, hint: "By default what the model says." }),
      field("Revision", inputs.revision, { name: "revision", hint: "Whose weights are traced." }),
      field("Samples", inputs.samples, { name: "samples", hint: "Runs with different noise." }),
    ),
    h(
      "div",
      { class: "actions" },
      submit,
      EXAMPLES.map(([prompt, subject]) => example(prompt, subject, fill)),
    ),
    trouble,
  );
  inputs.prompt.addEventListener("select", () => pick(inputs));

  async function send() {
    const body = Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, value]));
    if (!body.target.trim()) delete body.target;
    const trace = await sender(form, trouble, { ...body, samples: Number(body.samples) });
    if (trace) onAsked(trace);
  }

  revisions.fill(signal).catch(() => {}); // base and head can be traced all the same
  return { element: form, fill };
}

/** What is selected in the prompt is the subject, unless it is all of it. */
function pick({ prompt, subject }) {
  const picked = prompt.value.slice(prompt.selectionStart, prompt.selectionEnd).trim();
  if (picked && picked !== prompt.value.trim()) subject.value = picked;
}

function example(prompt, subject, fill) {
  return button(subject, () => fill({ prompt, subject }), { kind: "quiet", "aria-label": `Example: ${subject}` });
}
