// What a fact must be: the same rules, in the same words, as those of POST /edits.

/** A fact's fields, required ones first; whatever else a file has is an error there. */
export const FIELDS = [
  "prompt",
  "subject",
  "target_new",
  "target_true",
  "paraphrases",
  "neighborhood",
  "locality",
  "portability",
];
export const REQUIRED = FIELDS.slice(0, 3);

const MOST_TEXT = 20_000;
const MOST_QUESTIONS = 100;
const MOST_GROUPS = 20;

/** What is wrong with a fact: `{field, detail}` each; an empty list if it can be sent. */
export function faultsOf(fact) {
  if (!isObject(fact)) return [{ field: "", detail: "must be an object" }];
  const unknown = Object.keys(fact).filter((name) => !FIELDS.includes(name));
  const faults = unknown.map((field) => ({ field, detail: "is not a known field; remove it or correct its name" }));
  for (const field of REQUIRED)
    faults.push(...(field in fact ? textFaults(fact[field], field) : [{ field, detail: "is required; add it" }]));
  const wrong = (field, detail) => faults.push({ field, detail });
  const sound = (field) => field in fact && !faults.some((fault) => fault.field === field);
  if (sound("prompt") && fact.prompt.endsWith(" "))
    wrong("prompt", "must not end with a space; the target is appended after one");
  if (sound("subject")) {
    if (fact.subject !== fact.subject.trim()) wrong("subject", "must not begin or end with white space; remove it");
    else if (sound("prompt") && !fact.prompt.includes(fact.subject))
      wrong("subject", "must occur in the prompt, verbatim and in the same case");
  }
  if (fact.target_true != null) {
    faults.push(...textFaults(fact.target_true, "target_true"));
    if (sound("target_true") && sound("target_new") && fact.target_true.trim() === fact.target_new.trim())
      wrong("target_true", "must differ from target_new; leave it out if it is not known");
  }
  for (const field of ["paraphrases", "neighborhood"])
    if (field in fact) faults.push(...listFaults(fact[field], field, textFaults));
  for (const field of ["locality", "portability"]) if (field in fact) faults.push(...groupFaults(fact[field], field));
  return faults;
}

function textFaults(text, field) {
  const because = (detail) => [{ field, detail }];
  if (typeof text !== "string") return because("should be a valid string");
  if (text.isWellFormed?.() === false) return because("must be well-formed Unicode; remove the lone surrogates");
  if (text === "") return because("must not be empty");
  if (text.length > MOST_TEXT && [...text].length > MOST_TEXT)
    return because(`should have at most ${MOST_TEXT} characters`);
  if (text.includes("\0")) return because("must not contain NUL characters; remove them");
  return text.trim() === "" ? because("must contain more than white space") : [];
}

function listFaults(list, field, faultsOfOne) {
  if (!Array.isArray(list)) return [{ field, detail: "must be a list" }];
  if (list.length > MOST_QUESTIONS) return [{ field, detail: `should have at most ${MOST_QUESTIONS} items` }];
  return list.flatMap((one, at) => faultsOfOne(one, `${field}[${at}]`));
}

function groupFaults(groups, field) {
  if (!isObject(groups)) return [{ field, detail: "must be an object: questions by group" }];
  if (Object.keys(groups).length > MOST_GROUPS) return [{ field, detail: `should have at most ${MOST_GROUPS} groups` }];
  return Object.entries(groups).flatMap(([name, questions]) => {
    const group = `${field}.${name}`;
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
      return [{ field: group, detail: "should be named by 1 to 64 letters, digits, _ and -" }];
    return listFaults(questions, group, questionFaults);
  });
}

function questionFaults(question, field) {
  if (!isObject(question)) return [{ field, detail: "must be an object" }];
  const { prompt, answer, aliases = [], ...rest } = question;
  const unknown = Object.keys(rest).map((name) => ({
    field: `${field}.${name}`,
    detail: "is not a known field; remove it or correct its name",
  }));
  const texts = Object.entries({ prompt, answer }).flatMap(([name, text]) =>
    text === undefined
      ? [{ field: `${field}.${name}`, detail: "is required; add it" }]
      : textFaults(text, `${field}.${name}`),
  );
  return [...unknown, ...texts, ...listFaults(aliases, `${field}.aliases`, textFaults)];
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
