// Sends what a form asks for, once, and shows at its fields what is wrong.

import { isAbort } from "../lib/api.js";
import { clearProblems, showProblem } from "../lib/ui.js";
import { openKeys } from "./keys.js";

/** `send(form, trouble, body)` resolves to the job that was queued; to null where trouble tells why there is none. */
export function jobSender({ api, announce }, path, signal) {
  const keys = openKeys();
  return async (form, trouble, body) => {
    clearProblems(form, trouble);
    try {
      const job = await api.post(path, body, { idempotencyKey: keys.of(body), signal });
      keys.forget(body);
      announce("It waits in line");
      return job;
    } catch (error) {
      if (!isAbort(error)) showProblem(form, trouble, error);
      return null;
    }
  };
}
