// Idempotency keys by what is sent: whoever presses again after a line broke gets the same job, not another one.

import { newKey } from "../lib/api.js";

/** `of(body)`: the key of a body; `forget(body)`: it has been answered, so the next one like it is another. */
export function openKeys() {
  const keys = new Map();
  return {
    of(body) {
      const text = JSON.stringify(body);
      if (!keys.has(text)) keys.set(text, newKey());
      return keys.get(text);
    },
    forget: (body) => keys.delete(JSON.stringify(body)),
  };
}
