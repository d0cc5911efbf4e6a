// The forms that facts come in (their own, CounterFact, zsRE, KnowEdit, MQuAKE, known_1000), each told by its fields.

import { faultsOf, isObject } from "./fact-rules.js";

/** Stands beside a fact in a data set's record; no edit needs it. */
const BESIDE = ["case_id", "multi_hop", "generation_prompts", "reference_texts"];
const KNOWEDIT = ["ground_truth", "rephrase_prompt", "labels", "concept"];

/** `{form, facts}` of a decoded value, or `{form, faults: [{field, detail}]}` in the value's own names. */
export function readFacts(value) {
  if (!isObject(value)) return { form: "own", faults: [{ field: "", detail: "must be an object" }] };
  const form = formOf(value);
  const taker = new Taker(value);
  const found = READERS[form](taker, value);
  if (taker.faults.length > 0) return { form, faults: taker.faults };
  const faults = found.flatMap(({ fact, names }) => faultsOf(fact).map((fault) => renamed(fault, names ?? {})));
  return faults.length > 0 ? { form, faults } : { form, facts: found.map(({ fact }) => fact) };
}

function formOf(value) {
  if ("requested_rewrite" in value) return Array.isArray(value.requested_rewrite) ? "MQuAKE" : "CounterFact";
  if ("src" in value) return "zsRE";
  if ("known_id" in value) return "known_1000";
  if ("locality_prompt" in value) return "CounterFact, condensed";
  if (KNOWEDIT.some((mark) => mark in value) || [value.locality, value.portability].some(inKnowEdit)) return "KnowEdit";
  return "own";
}

function inKnowEdit(groups) {
  const lists = isObject(groups) ? Object.values(groups).filter(Array.isArray) : [];
  return lists.flat().some((question) => isObject(question) && "ground_truth" in question);
}

/** Takes texts out of a raw record by their dotted paths, and remembers what is missing or something else. */
class Taker {
  constructor(value) {
    this.value = value;
    this.faults = [];
  }

  text(path) {
    const found = this.at(path);
    if (found === undefined) this.faults.push({ field: path, detail: "is required; add it" });
    else if (typeof found !== "string") this.faults.push({ field: path, detail: "should be a valid string" });
    return found;
  }

  texts(path) {
    const found = this.at(path) ?? [];
    if (Array.isArray(found) && found.every((one) => typeof one === "string")) return found;
    this.faults.push({ field: path, detail: "must be a list of texts" });
    return [];
  }

  maybe(path) {
    return this.at(path) == null ? undefined : this.text(path);
  }

  at(path) {
    return path
      .split(/[.[\]]+/)
      .filter(Boolean)
      .reduce((value, name) => value?.[name], this.value);
  }
}

const READERS = {
  own: (_, value) => [{ fact: Object.fromEntries(Object.entries(value).filter(([name]) => !BESIDE.includes(name))) }],

  CounterFact(taker) {
    const { fact, names } = rewrite(taker, "requested_rewrite");
    fact.paraphrases = taker.texts("paraphrase_prompts");
    fact.neighborhood = taker.texts("neighborhood_prompts");
    return [{ fact, names: { ...names, paraphrases: "paraphrase_prompts", neighborhood: "neighborhood_prompts" } }];
  },

  MQuAKE: (taker, value) =>
    value.requested_rewrite.map((_, at) => {
      const path = `requested_rewrite[${at}]`;
      const { fact, names } = rewrite(taker, path);
      const question = taker.maybe(`${path}.question`);
      if (question) fact.paraphrases = [question];
      return { fact, names: { ...names, "paraphrases[0]": `${path}.question` } };
    }),

  "CounterFact, condensed"(taker) {
    const [neighbor, answer] = [taker.text("locality_prompt"), taker.text("locality_ground_truth")];
    const truth = taker.text("ground_truth");
    const fact = plain(taker, { prompt: "prompt", subject: "subject", target_new: "target_new" });
    truly(fact, truth);
    fact.paraphrases = [taker.text("rephrase_prompt")];
    if (answer?.trim?.() === truth?.trim?.()) fact.neighborhood = [neighbor];
    fact.locality = { neighborhood: [{ prompt: neighbor, answer }] };
    const names = {
      target_true: "ground_truth",
      "paraphrases[0]": "rephrase_prompt",
      "neighborhood[0]": "locality_prompt",
      "locality.neighborhood[0].prompt": "locality_prompt",
      "locality.neighborhood[0].answer": "locality_ground_truth",
    };
    return [{ fact, names }];
  },

  zsRE(taker) {
    const fact = plain(taker, { prompt: "src", subject: "subject", target_new: "alt" });
    truly(fact, taker.text("answers[0]"));
    fact.paraphrases = [taker.text("rephrase")];
    fact.locality = { neighborhood: [{ prompt: taker.text("loc"), answer: taker.text("loc_ans") }] };
    if (taker.at("portability") != null) {
      const question = { prompt: taker.text("portability.New Question"), answer: taker.text("portability.New Answer") };
      fact.portability = { one_hop: [question] };
    }
    const names = {
      prompt: "src",
      target_new: "alt",
      "paraphrases[0]": "rephrase",
      "locality.neighborhood[0].prompt": "loc",
      "locality.neighborhood[0].answer": "loc_ans",
      "portability.one_hop[0].prompt": "portability.New Question",
      "portability.one_hop[0].answer": "portability.New Answer",
    };
    return [{ fact, names }];
  },

  KnowEdit(taker, value) {
    const name = (ours, theirs) => (ours in value ? ours : theirs);
    const names = {
      prompt: name("prompt", "text"),
      subject: name("subject", "concept"),
      target_new: name("target_new", "labels"),
    };
    const fact = plain(taker, names);
    truly(fact, leaves(value.ground_truth)[0]);
    const rephrase = name("rephrase_prompt", "rephrase");
    if (taker.maybe(rephrase)) fact.paraphrases = [value[rephrase]];
    for (const kind of ["locality", "portability"])
      if (isObject(value[kind])) fact[kind] = knowEditGroups(value[kind], kind, names);
    return [{ fact, names: { ...names, "paraphrases[0]": rephrase, target_true: "ground_truth" } }];
  },

  known_1000: (taker) => [
    {
      fact: plain(taker, { prompt: "prompt", subject: "subject", target_new: "attribute" }),
      names: { target_new: "attribute" },
    },
  ],
};

/** A fact as the authors of ROME write it: `{}` in the prompt stands for the subject. */
function rewrite(taker, path) {
  const names = {
    prompt: `${path}.prompt`,
    subject: `${path}.subject`,
    target_new: `${path}.target_new.str`,
    target_true: `${path}.target_true.str`,
  };
  const fact = plain(taker, { prompt: names.prompt, subject: names.subject, target_new: names.target_new });
  const truth = taker.at(`${path}.target_true`) == null ? undefined : taker.text(names.target_true);
  if (truth !== undefined) fact.target_true = truth;
  if (typeof fact.prompt === "string") {
    if (!fact.prompt.includes("{}"))
      taker.faults.push({ field: names.prompt, detail: "must have {} where the subject belongs" });
    fact.prompt = fact.prompt.replaceAll("{}", () => fact.subject);
  }
  return { fact, names };
}

function plain(taker, names) {
  return Object.fromEntries(Object.entries(names).map(([ours, theirs]) => [ours, taker.text(theirs)]));
}

/** What is true, unless the file gives the new target twice: then it is not known. */
function truly(fact, truth) {
  if (truth?.trim?.() && truth.trim() !== fact.target_new?.trim?.()) fact.target_true = truth;
}

/** Groups by their names in small letters; a question without an answer is left out, other answers are aliases. */
function knowEditGroups(groups, kind, names) {
  const found = {};
  for (const [name, questions] of Object.entries(groups)) {
    const kept = [];
    for (const [at, question] of (questions ?? []).entries()) {
      const answers = [...new Set(leaves(question?.ground_truth))];
      if (answers.length === 0) continue;
      names[`${kind}.${name.toLowerCase()}[${kept.length}]`] = `${kind}.${name}[${at}]`;
      kept.push({ prompt: question.prompt, answer: answers[0], aliases: answers.slice(1, 100) });
    }
    found[name.toLowerCase()] = kept;
  }
  return found;
}

/** The texts in a text, a list, or a list of lists; blank ones are none. */
function leaves(value) {
  if (typeof value === "string") return value.trim() ? [value] : [];
  return Array.isArray(value) ? value.flatMap(leaves) : [];
}

/** By the longest name that the field begins with. */
function renamed({ field, detail }, names) {
  const fits = (name) => field.startsWith(name) && ["", ".", "["].includes(field.slice(name.length, name.length + 1));
  const name = Object.keys(names)
    .filter(fits)
    .sort((one, other) => other.length - one.length)[0];
  return { field: name === undefined ? field : names[name] + field.slice(name.length), detail };
}
