// Reads the facts of a file, JSON lines, a JSON array or CSV: the good ones, and what is wrong by line.

import { delimiterOf, readRows } from "./csv.js";
import { FIELDS, REQUIRED } from "./fact-rules.js";
import { readFacts } from "./fact-forms.js";
import { readItems } from "./json-items.js";

export const MOST_FACTS = 10_000;

const LISTS = ["paraphrases", "neighborhood"];
const GROUPS = ["locality", "portability"];

/** The text of a file's bytes; `{line}` of the first that is not UTF-8. */
export function decode(bytes) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    return { text: decoder.decode(bytes) };
  } catch {
    return { line: firstWrongLine(bytes) };
  }
}

function firstWrongLine(bytes) {
  let line = 1;
  for (let begin = 0; begin < bytes.length; line++) {
    const found = bytes.indexOf(10, begin);
    const end = found < 0 ? bytes.length : found + 1;
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(begin, end));
    } catch {
      return line;
    }
    begin = end;
  }
  return line;
}

/**
 * All that a file says: `{kind, facts: [{line, fact}], errors: [{line, field, detail}]}`.
 * kind: how it was read. The facts can be sent together, whatever the errors are.
 */
export function readFile(name, bytes) {
  const { text, line } = decode(bytes);
  if (text === undefined) return failed("text", line, "is not UTF-8; save the file in UTF-8");
  return readText(text.replace(/^\ufeff/, ""), name);
}

export function readText(text, name = "") {
  const found = isCsv(text, name) ? fromCsv(text) : fromJson(text);
  if (found.facts.length === 0 && found.errors.length === 0)
    return failed(found.kind, 1, "there is no fact here; write one JSON object a line, a JSON array of them, or a CSV");
  return together(found);
}

function failed(kind, line, detail, field = "") {
  return { kind, facts: [], errors: [{ line, field, detail }] };
}

function isCsv(text, name) {
  if (/\.(csv|tsv|tab)$/i.test(name)) return true;
  return !/\.(json|jsonl|ndjson)$/i.test(name) && !/^\s*([{[]|$)/.test(text);
}

function fromJson(text) {
  const found = { kind: /^\s*\[/.test(text) ? "a JSON array" : "JSON lines", facts: [], errors: [] };
  const forms = new Set();
  for (const { line, value, wrong, last } of readItems(text)) {
    if (wrong !== undefined) {
      const more = last ? " Nothing behind it was read." : "";
      found.errors.push({ line, field: "", detail: last ? `${wrong}.${more}` : wrong });
      continue;
    }
    const { form, facts = [], faults = [] } = readFacts(value);
    found.facts.push(...facts.map((fact) => ({ line, fact })));
    found.errors.push(...faults.map((fault) => ({ line, ...fault })));
    if (facts.length > 0 && form !== "own") forms.add(form);
  }
  if (forms.size > 0) found.kind += ` of ${[...forms].join(" and ")}`;
  return found;
}

const NAMES = { ",": "commas", ";": "semicolons", "\t": "tabs" };

function fromCsv(text) {
  const delimiter = delimiterOf(text, (cell) => FIELDS.includes(columnOf(cell)));
  const kind = `CSV with ${NAMES[delimiter]}`;
  const [header, ...rows] = readRows(text, delimiter);
  if (header === undefined) return { kind, facts: [], errors: [] };
  const columns = header.cells.map(columnOf);
  const missing = REQUIRED.filter((name) => !columns.includes(name));
  if (missing.length > 0)
    return failed(kind, header.line, `the first line must name the columns; ${missing.join(", ")} must be among them`);
  const errors = headerFaults(columns, header);
  const facts = [];
  for (const row of rows) {
    const { fact, faults } = fromRow(row, columns);
    errors.push(...faults.map((fault) => ({ line: row.line, ...fault })));
    if (faults.length === 0) facts.push({ line: row.line, fact });
  }
  return { kind, facts, errors };
}

function columnOf(cell) {
  return cell
    .trim()
    .toLowerCase()
    .replaceAll(/[\s-]+/g, "_");
}

function headerFaults(columns, { line, cells }) {
  const detail = `is not a field of a fact, so this column is left out; the fields are ${FIELDS.join(", ")}`;
  const unknown = columns.flatMap((name, at) =>
    FIELDS.includes(name) || name === "case_id" || name === "" ? [] : [{ line, field: cells[at], detail }],
  );
  const twice = columns.filter((name, at) => FIELDS.includes(name) && columns.indexOf(name) < at);
  return [...unknown, ...twice.map((field) => ({ line, field, detail: "stands twice; the first column counts" }))];
}

function fromRow({ cells, unclosed }, columns) {
  const because = (detail) => ({ faults: [{ field: "", detail }] });
  if (unclosed) return because('opens a quote that is never closed; add the closing ", and write quotes inside as ""');
  if (cells.length > columns.length)
    return because(`has ${cells.length} cells for ${columns.length} columns; put quotes around cells with delimiters`);
  const faults = [];
  const fact = {};
  for (const [at, name] of columns.entries()) {
    const cell = cells[at] ?? "";
    if (!FIELDS.includes(name) || columns.indexOf(name) < at || cell.trim() === "") continue;
    const { value, wrong } = valueOf(name, cell);
    if (wrong !== undefined) faults.push({ field: name, detail: wrong });
    else fact[name] = value;
  }
  if (faults.length > 0) return { faults };
  const read = readFacts(fact);
  return { fact: read.facts?.[0], faults: read.faults ?? [] };
}

/** A cell of texts is a JSON array, or has | between them; one of groups is a JSON object. */
function valueOf(name, cell) {
  const json = GROUPS.includes(name) || (LISTS.includes(name) && cell.trim().startsWith("["));
  if (!json) return { value: LISTS.includes(name) ? listed(cell) : cell };
  try {
    return { value: JSON.parse(cell) };
  } catch {
    return { wrong: GROUPS.includes(name) ? "must be a JSON object: questions by group" : "is no JSON array of texts" };
  }
}

function listed(cell) {
  return cell
    .split("|")
    .map((text) => text.trim())
    .filter((text) => text !== "");
}

/** Without facts that contradict an earlier one, or are too many for one edit. */
function together({ kind, facts, errors }) {
  const first = new Map();
  const kept = [];
  for (const { line, fact } of facts) {
    const key = JSON.stringify([fact.prompt, fact.subject]);
    const target = fact.target_new.trim();
    const earlier = first.get(key) ?? { line, target };
    first.set(key, earlier);
    const wrong = (field, detail) => errors.push({ line, field, detail });
    if (earlier.target !== target)
      wrong("target_new", `contradicts line ${earlier.line} after the same prompt; keep one of the two`);
    else if (kept.length === MOST_FACTS)
      wrong("", `is beyond ${MOST_FACTS} facts, all that one edit takes; split the file`);
    else kept.push({ line, fact });
  }
  return { kind, facts: kept, errors: errors.toSorted((one, other) => one.line - other.line) };
}
