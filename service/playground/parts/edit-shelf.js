// Edits by id as the lists show them: with their first facts and scores, and read once.

const PAGES = 3;

/** `find(ids)`: a Map from id to edit. Lists are read page by page; what is older is asked for by id. */
export function openShelf(api) {
  const known = new Map();
  const gone = new Set();
  return {
    async find(ids, signal) {
      const wanted = [...new Set(ids)];
      const missing = () => wanted.filter((id) => !known.has(id) && !gone.has(id));
      let before;
      for (let page = 0; page < PAGES && missing().length > 0; page++) {
        const found = await api.get("/edits", { limit: 100, ...(before ? { before } : {}) }, { signal });
        for (const edit of found.edits)
          if (edit.status !== "queued" && edit.status !== "running") known.set(edit.id, edit);
        if (!found.next) break;
        before = found.next;
      }
      for (const id of missing()) await this.one(id, signal);
      return new Map(wanted.filter((id) => known.has(id)).map((id) => [id, known.get(id)]));
    },

    async one(id, signal) {
      try {
        known.set(id, await api.get(`/edits/${id}`, {}, { signal }));
      } catch (error) {
        if (error.status !== 404) throw error;
        gone.add(id);
      }
    },
  };
}
