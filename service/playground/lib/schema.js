// A form out of a JSON schema: what each hyperparameter may be, its default as the placeholder, and what is wrong with an entry.

import { h } from "./dom.js";
import { field } from "./ui.js";

const UNSET = "";

/** Fields for all properties that can be chosen. `read()` gives `{values, errors}` of those that were set by hand. */
export function schemaFields(schema, defaults, prefix) {
  const parts = Object.entries(schema.properties)
    .map(([name, property]) => part(name, typed(property), defaults?.[name] ?? property.default, prefix))
    .filter(Boolean);
  return {
    elements: parts.map(({ element }) => element),
    read: () => collect(parts),
  };
}

function collect(parts) {
  const values = {};
  const errors = [];
  for (const { name, element, read } of parts) {
    const { value, error } = read();
    if (error) errors.push({ field: element.dataset.field, detail: error });
    else if (value !== undefined) values[name] = value;
  }
  return { values, errors };
}

function part(name, schema, normal, prefix) {
  if (schema.const !== undefined) return null; // nothing to choose
  const choices = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  const control = choices ? choice(choices, normal) : h("input", { placeholder: shown(normal), ...attributes(schema) });
  const element = field(name, control, { name: `${prefix}.${name}`, hint: hintOf(schema) });
  const read = () => (control.value === UNSET ? {} : choices ? { value: JSON.parse(control.value) } : valueOf(schema, control.value));
  control.addEventListener("change", () => say(element, control, read().error));
  return { name, element, read };
}

/** anyOf with null, or with a constant, is its first member and that constant beside it. */
function typed(schema) {
  if (!schema.anyOf) return schema;
  const [first, second] = schema.anyOf;
  const also = second.type === "null" ? null : second.const;
  return { ...first, description: schema.description, default: schema.default, also };
}

function choice(values, normal) {
  const option = (value) => h("option", { value: JSON.stringify(value) }, shown(value));
  return h("select", null, h("option", { value: UNSET }, `as usual (${shown(normal)})`), values.map(option));
}

function attributes({ type, also }) {
  if (also === undefined && (type === "number" || type === "integer")) return { inputmode: "decimal" };
  return { spellcheck: "false" };
}

function say(element, control, error) {
  element.classList.toggle("invalid", Boolean(error));
  control.setAttribute("aria-invalid", String(Boolean(error)));
  element.querySelector(".field-error").replaceChildren(error ?? "");
}

/** `{value}` of what was typed, or `{error}`, a sentence that says what is expected. */
export function valueOf(schema, text) {
  const value = decoded(schema, text.trim());
  if (schema.also !== undefined && value === schema.also) return { value };
  const fits = fitsSchema(schema, value);
  return fits ? { value } : { error: `must be ${expected(schema)}` };
}

function decoded(schema, text) {
  try {
    return JSON.parse(text);
  } catch {
    // "4, 5, 6" is as clear as "[4, 5, 6]".
    if (schema.type !== "array") return text;
    try {
      return JSON.parse(`[${text}]`);
    } catch {
      return text;
    }
  }
}

function fitsSchema(schema, value) {
  if (schema.const !== undefined) return value === schema.const;
  if (schema.type === "array") return fitsArray(schema, value);
  if (schema.type === "string") return typeof value === "string";
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (schema.type === "integer" && !Number.isInteger(value)) return false;
  return !(value < schema.minimum || value > schema.maximum || value <= schema.exclusiveMinimum || value >= schema.exclusiveMaximum);
}

function fitsArray(schema, value) {
  if (!Array.isArray(value) || value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity)) return false;
  return value.every((one, index) => fitsSchema(schema.prefixItems?.[index] ?? schema.items ?? {}, one));
}

function expected(schema) {
  const base = schema.type === "array" ? `a list of ${plural(schema.items ?? {})}, such as ${example(schema)}` : range(schema);
  return schema.also === undefined ? base : `${base}, or ${JSON.stringify(schema.also)}`;
}

function plural({ type }) {
  return { integer: "whole numbers", number: "numbers", string: "texts", array: "lists" }[type] ?? "values";
}

function example({ items }) {
  return { string: '["a text", "another"]', array: "[[5, 10], [10, 10]]" }[items?.type] ?? "4, 5, 6";
}

function range({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
  const bounds = [
    minimum !== undefined && `at least ${minimum}`,
    exclusiveMinimum !== undefined && `above ${exclusiveMinimum}`,
    maximum !== undefined && `at most ${maximum}`,
    exclusiveMaximum !== undefined && exclusiveMaximum < 1e15 && `below ${exclusiveMaximum}`,
  ].filter(Boolean);
  return [type === "integer" ? "a whole number" : "a number", bounds.join(" and ")].filter(Boolean).join(", ");
}

function hintOf(schema) {
  return schema.description ?? "";
}

function shown(value) {
  if (value === undefined || value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value).replaceAll(",", ", ");
}
