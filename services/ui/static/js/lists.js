// Loads lists, each on its own: when one service does not answer, the other list is shown all the same. What is shown
// already stays. After a failure, a notice says so and the list is loaded again later.

import { byId } from "./dom.js";
import { beginRead, state } from "./state.js";

const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;

const lists = {
  users: {
    missing: "People cannot be loaded now. Flack tries again.",
    stale: "People cannot be loaded now, so the list may be old. Flack tries again.",
  },
  channels: {
    missing: "Channels cannot be loaded now. Flack tries again.",
    stale: "Channels cannot be loaded now, so the list may be old. Flack tries again.",
  },
  messages: {
    missing: "Messages cannot be loaded now. Flack tries again.",
    stale: "Messages cannot be loaded now, so some may be missing. Flack tries again.",
  },
  thread: {
    missing: "The thread cannot be loaded now. Flack tries again.",
    stale: "The thread cannot be loaded now, so replies may be missing. Flack tries again.",
  },
};

export function openLists() {
  for (const [name, list] of Object.entries(lists)) {
    byId(`${name}-retry`).addEventListener("click", () => list.again?.());
  }
}

/** Calls `read` until it succeeds, and then `apply` with its result. Replaces what is being loaded into this list. */
export async function load(name, read, apply, failures = 0) {
  const list = lists[name];
  clearTimeout(list.timer);
  const current = (list.current = {});
  list.again = () => load(name, read, apply);
  beginRead(name);
  try {
    const result = await read();
    if (list.current !== current) return;
    apply(result);
    list.current = list.again = null;
    byId(`${name}-notice`).hidden = true;
  } catch {
    if (list.current !== current) return;
    byId(`${name}-notice-text`).textContent = state.loaded[name] ? list.stale : list.missing;
    byId(`${name}-notice`).hidden = false;
    // With jitter, so that the windows of many users do not call at the same moment.
    const pauseMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures) * (0.5 + Math.random() / 2);
    list.timer = setTimeout(() => load(name, read, apply, failures + 1), pauseMs);
  }
}

/** Whether a list is being loaded, or waits to be loaded again. */
export const isLoading = (name) => Boolean(lists[name].current);

/** Called at the sign-out: discards what is being loaded. */
export function stopLists() {
  for (const list of Object.values(lists)) {
    clearTimeout(list.timer);
    list.current = list.again = null;
  }
}
