// What a move of the head changes: which edits leave, and which come into force.

/** `{leave, come}`: ids, in the order in which they were committed, between two lists of edits in force. */
export function changesBetween(now, then) {
  const [before, after] = [new Set(now), new Set(then)];
  return { leave: now.filter((id) => !after.has(id)), come: then.filter((id) => !before.has(id)) };
}
