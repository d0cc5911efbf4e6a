// Which method writes the fact, with what hyperparameters: fields made from the schema that the resident model's methods publish.

import { h, replace } from "./dom.js";
import { schemaFields } from "./schema.js";
import { field } from "./ui.js";

const USUAL = "rome";

/** `element`; `read()`: `{options, errors}` with the options of POST /edits; `fill(request)`; `show(methods)`: what there is to choose. */
export function methodForm() {
  const select = h("select", null, h("option", { value: USUAL }, USUAL));
  const source = h("p", { class: "hint" });
  const numbers = h("div", { class: "grid" });
  const dry = h("input", { type: "checkbox", id: "dry-run" });
  let methods = [];
  let fields = null;

  const choose = () => {
    const method = methods.find(({ name }) => name === select.value);
    fields = method ? schemaFields(method.hparams_schema, method.defaults, "hparams") : null;
    replace(source, method && [method.source, method.defaults === null && " No values are shipped for this model: give all of them."]);
    replace(numbers, fields?.elements);
  };
  select.addEventListener("change", choose);

  const element = h(
    "details",
    null,
    h("summary", null, "Method and hyperparameters"),
    h(
      "div",
      { class: "stack" },
      h("div", null, field("Method", select, { name: "method" }), source),
      numbers,
      h("div", { class: "check" }, dry, h("label", { for: "dry-run" }, "Only try it: compute and measure, and commit nothing")),
    ),
  );

  function show(given) {
    const chosen = select.value;
    methods = given;
    replace(select, given.map(({ name, title }) => h("option", { value: name }, title)));
    select.value = given.some(({ name }) => name === chosen) ? chosen : (given[0]?.name ?? "");
    choose();
  }

  function read() {
    const { values, errors } = fields?.read() ?? { values: {}, errors: [] };
    const options = { method: select.value };
    if (Object.keys(values).length) options.hparams = values;
    if (dry.checked) options.dry_run = true;
    return { options, errors };
  }

  return { element, show, read };
}
