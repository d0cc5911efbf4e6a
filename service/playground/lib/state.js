// What is known of the service: the model, whether a worker serves its head, whether anything answers at all.

import { api, ApiError } from "./api.js";

const CALM_MS = 4000;
const ANXIOUS_MS = 1500;

/**
 * Asks /ready again and again, and /model whenever the head has moved. While no worker is ready /model alone is asked,
 * which says so without an error.
 *
 * `model`: the answer of GET /model, or null; `reason`: why it is not ready, a sentence; `locked`: an API key is needed;
 * `refresh()`: ask now.
 */
export function watchState() {
  const listeners = new Set();
  const state = { model: null, ready: false, online: true, reason: null, locked: false, known: false, onChange, refresh };
  let timer;
  let asking = null;

  function onChange(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  function refresh() {
    asking ??= look().finally(() => {
      asking = null;
      clearTimeout(timer);
      timer = setTimeout(refresh, state.ready && state.online ? CALM_MS : ANXIOUS_MS);
    });
    return asking;
  }

  async function look() {
    const before = seen(state);
    const known = state.known;
    Object.assign(state, await found(state), { known: true });
    if (!known || before !== seen(state)) {
      for (const listener of listeners) listener(state);
    }
  }

  addEventListener("online", refresh);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  return state;
}

function seen({ ready, online, reason, locked, model }) {
  return JSON.stringify([ready, online, reason, locked, model]);
}

async function found(state) {
  try {
    if (state.ready) {
      const ready = await api.get("/ready");
      if (ready.revision === state.model.revision) return { ready: true, online: true, reason: null, locked: false };
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 0) return { ready: false, online: false, reason: error.problem.detail, locked: false };
  }
  try {
    const model = await api.get("/model");
    const reason = whyNot(model);
    return { model, ready: reason === null, online: true, reason, locked: false };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { ready: false, online: error.status !== 0, reason: error.problem.detail, locked: error.status === 401 };
  }
}

function whyNot({ workers, revision }) {
  if (workers.length === 0) return "No worker serves the model. Edits wait in line until one is back: palimpsest up, or palimpsest worker.";
  if (workers.some((worker) => worker.state === "ready" && worker.revision === revision)) return null;
  return `The worker is ${workers[0].state}${workers[0].detail ? `: ${workers[0].detail}` : ""}.`;
}
