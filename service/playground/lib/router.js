// Which view an address means: "#/compare?prompt=…" is the view compare with its parameters.

export const VIEWS = [
  ["edit", "Edit"],
  ["compare", "Compare"],
  ["history", "History"],
  ["batch", "Batch"],
  ["trace", "Trace"],
  ["benchmarks", "Benchmarks"],
  ["system", "System"],
];

/** `{name, params}` of an address's hash; the first view where it names none. */
export function parseHash(hash) {
  const [, name, query = ""] = /^#\/([a-z]*)(?:\?(.*))?$/.exec(hash) ?? [];
  const known = VIEWS.some(([view]) => view === name);
  return { name: known ? name : VIEWS[0][0], params: new URLSearchParams(known ? query : "") };
}

/** The hash of a view with parameters: an object (values may be lists), or URLSearchParams. */
export function hashOf(name, params = {}) {
  const search = new URLSearchParams(params instanceof URLSearchParams ? params : undefined);
  if (!(params instanceof URLSearchParams)) {
    for (const [key, value] of Object.entries(params)) {
      for (const one of [value].flat()) if (one !== undefined && one !== null) search.append(key, one);
    }
  }
  const query = search.toString();
  return `#/${name}${query ? `?${query}` : ""}`;
}
