// The public HTTP API. Every failure is an ApiError with the RFC 9457 problem that the service told, or one like it.

import { eventsOf } from "./sse.js";

const AGAIN_MS = 1000;
const KEY = "palimpsest-key";
const ENDED = (job) => !["queued", "running"].includes(job.status);

/** What went wrong: `status` (0 where nothing answered) and `problem` {type, title, status, detail, errors}. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail);
    this.status = status;
    this.problem = problem;
  }
}

/** Whether this is only the end of something that was stopped on purpose. */
export function isAbort(error) {
  return error?.name === "AbortError";
}

/** The API key that this tab sends, or null; it is gone when the tab is closed. */
export function apiKey() {
  return sessionStorage.getItem(KEY);
}

/** Sends this key from now on; null sends none. */
export function useApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** A name for one request, so that it can be repeated safely. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function ask(method, path, { params, body, headers = {}, signal, accept = "application/json" } = {}) {
  const url = new URL(path.replace(/^\//, ""), document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries(params ?? {})) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) url.searchParams.append(name, one);
  }
  const key = apiKey();
  const all = { Accept: accept, ...(key ? { Authorization: `Bearer ${key}` } : {}), ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(url, { method, headers: all, body: sent, signal, cache: "no-store" });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, unreachable());
  }
  if (!response.ok) throw new ApiError(response.status, await problemOf(response));
  return response;
}

function unreachable() {
  const detail = "The service does not answer. Check that it runs and that this computer reaches it.";
  return { type: "urn:palimpsest:problem:unreachable", title: "No connection", status: 0, detail, errors: [] };
}

async function problemOf(response) {
  try {
    const problem = await response.json();
    if (problem.detail) return { errors: [], ...problem };
  } catch {
    // Not from the service: a proxy's page, or nothing at all.
  }
  const title = response.statusText || `HTTP ${response.status}`;
  return { type: "about:blank", title, status: response.status, detail: `The answer was ${title}.`, errors: [] };
}

async function jsonOf(response) {
  return response.status === 204 ? null : response.json();
}

/** Watches a job until it has ended; a line that breaks is opened again. Resolves to the job as it ended. */
async function events(path, { signal, onEvent } = {}) {
  for (;;) {
    try {
      const response = await ask("GET", path, { signal, accept: "text/event-stream" });
      for await (const { data } of eventsOf(response)) {
        onEvent?.(data);
        if (ENDED(data)) return data;
      }
    } catch (error) {
      if (isAbort(error) || (error instanceof ApiError && error.status >= 400 && error.status < 500)) throw error;
    }
    await pause(AGAIN_MS, signal);
  }
}

/** Posts, and hands on each event `{event, data}` of the streamed answer as it comes. */
async function stream(path, body, { signal, onEvent } = {}) {
  const response = await ask("POST", path, { body, signal, accept: "text/event-stream" });
  try {
    for await (const event of eventsOf(response)) {
      if (event.event === "problem") throw new ApiError(event.data.status, { errors: [], ...event.data });
      onEvent?.(event);
    }
  } catch (error) {
    if (isAbort(error) || error instanceof ApiError) throw error;
    throw new ApiError(0, unreachable());
  }
}

/** Resolves after some milliseconds; rejects with an AbortError as soon as the signal says stop. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

export const api = {
  get: (path, params, { signal } = {}) => ask("GET", path, { params, signal }).then(jsonOf),
  post: (path, body, { idempotencyKey, signal } = {}) =>
    ask("POST", path, { body, signal, headers: idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {} }).then(jsonOf),
  file: (path) => ask("GET", path, { accept: "*/*" }).then((response) => response.blob()),
  del: (path) => ask("DELETE", path).then(jsonOf),
  events,
  stream,
};
