// Edit: rewrite one fact.

export const title = "Rewrite a fact";

export function mount(root) {
  return () => root.replaceChildren();
}
