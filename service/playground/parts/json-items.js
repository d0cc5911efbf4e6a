// The values of a text, JSON lines or one JSON array, each with the line that it begins in.

const BLANK = " \t\r\n";

/** `{line, value}` for each value, `{line, wrong}` where there is none; what is no JSON ends an array. */
export function readItems(text) {
  const begin = skipBlank(text, 0);
  return numbered(text, text[begin] === "[" ? elements(text, begin + 1) : lines(text));
}

/** Lines instead of offsets. */
function numbered(text, found) {
  let line = 1;
  let counted = 0;
  return found.map(({ at, ...item }) => {
    for (; counted < at; counted++) line += text[counted] === "\n" ? 1 : 0;
    return { line, ...item };
  });
}

function lines(text) {
  const found = [];
  let at = 0;
  for (const line of text.split("\n")) {
    if (skipBlank(line, 0) < line.length) found.push({ at, ...valueOf(line) });
    at += line.length + 1;
  }
  return found;
}

function valueOf(text) {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { wrong: whyNot(text, error) };
  }
}

/** What to do about text that is no JSON: the usual slips by name, else what the browser says. */
function whyNot(text, error) {
  const trimmed = text.trimEnd();
  if (trimmed.endsWith(",") && isJson(trimmed.slice(0, -1)))
    return "ends with a comma; remove it, or make the file an array in [ ]";
  const end = endOfValue(text, skipBlank(text, 0));
  if (end < trimmed.length && isJson(text.slice(0, end)))
    return `has something behind its object, at column ${skipBlank(text, end) + 1}; write one object a line`;
  return `is not JSON: ${error.message}`;
}

function isJson(text) {
  return "value" in probe(text);
}

function probe(text) {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return {};
  }
}

/** The elements of an array, from behind its opening bracket. */
function elements(text, begin) {
  const found = [];
  let at = skipBlank(text, begin);
  let more = text[at] !== "]";
  while (more) {
    if (text[at] === "]") return [...found, { at, wrong: "has a comma before the closing ]; remove it" }];
    const end = endOfValue(text, at);
    const item = valueOf(text.slice(at, end));
    if ("wrong" in item) return [...found, { at, ...item, last: true }];
    found.push({ at, ...item });
    at = skipBlank(text, end);
    more = text[at] === ",";
    at = skipBlank(text, at + (more ? 1 : 0));
  }
  if (text[at] !== "]")
    return [...found, { at, wrong: "needs a comma or the closing ] behind the fact before", last: true }];
  const rest = skipBlank(text, at + 1);
  return rest < text.length ? [...found, { at: rest, wrong: "has something behind the closing ]; remove it" }] : found;
}

/** The offset behind the value that begins at `at`: where its brackets are closed, or the next comma or bracket is. */
function endOfValue(text, at) {
  let depth = 0;
  let quoted = false;
  for (let end = at; end < text.length; end++) {
    const sign = text[end];
    if (quoted) {
      if (sign === "\\") end++;
      else if (sign === '"') quoted = false;
      if (!quoted && depth === 0) return end + 1;
    } else if (sign === '"') quoted = true;
    else if (sign === "{" || sign === "[") depth++;
    else if (sign === "}" || sign === "]") {
      if (depth === 0) return end;
      if (--depth === 0) return end + 1;
    } else if (sign === "," && depth === 0) return end;
  }
  return text.length;
}

/** The offset of the first character from `at` on that is not white space to JSON. */
function skipBlank(text, at) {
  let end = at;
  while (end < text.length && BLANK.includes(text[end])) end++;
  return end;
}
