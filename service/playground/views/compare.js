// Compare: one prompt under two revisions.

export const title = "Before and after";

export function mount(root) {
  return () => root.replaceChildren();
}
