// What is known of the history so far: it grows at its head while it is looked at, and at its end by pages.

const PAGE = 20;

/**
 * `{revisions, active, hasOlder, newer(), older()}`. revisions: newest first, without a gap; active: ids of the edits
 * that are in force at the head, a Set.
 */
export function openTimeline(api, signal) {
  const held = { revisions: [], active: new Set(), hasOlder: false, newer, older };
  let next = null;

  async function newer() {
    const page = await api.get("/revisions", { limit: PAGE }, { signal });
    const head = held.revisions[0]?.revision ?? -1; // read now: somebody else may have been here meanwhile
    if (page.revisions.some(({ revision }) => revision === head))
      held.revisions.unshift(...page.revisions.filter(({ revision }) => revision > head));
    else begin(page);
    if (page.revision === null) return;
    const { active } = await api.get(`/revisions/${page.revision}`, {}, { signal });
    held.active = new Set(active);
  }

  async function older() {
    const page = await api.get("/revisions", { limit: PAGE, before: next }, { signal });
    held.revisions.push(...page.revisions);
    turn(page);
  }

  function begin(page) {
    held.revisions = page.revisions;
    turn(page);
  }

  function turn(page) {
    next = page.next;
    held.hasOlder = next !== null;
  }

  return held;
}
