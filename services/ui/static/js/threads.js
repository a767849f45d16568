// Loads the thread that is open beside the channel: its first message and its replies, in pages.

import * as api from "./api.js";
import { isLoading, load } from "./lists.js";
import { session } from "./session.js";
import { applyThreadPage, state } from "./state.js";

/**
 * Loads the first message and the newest replies. `moved` is called with the thread of a reply, or with null if there
 * is no such message.
 */
export function loadThread(moved) {
  const { id } = state.thread;
  load("thread", () => read(id), ({ first, page }) => {
    if (state.thread?.id !== id) return;
    if (page) applyThreadPage({ first, page, place: "instead" });
    else moved(first?.thread_id ?? null);
  });
}

async function read(id) {
  try {
    const first = await api.getMessage(session.token, id);
    // Any message may be in an address.
    if (first.channel_id !== state.channelId) return {};
    return first.thread_id ? { first } : { first, page: await api.listReplies(session.token, id) };
  } catch (problem) {
    if ([400, 404].includes(problem.status)) return {};
    throw problem;
  }
}

export function loadEarlierReplies() {
  const { id, earlier } = state.thread;
  if (earlier === null || isLoading("thread")) return;
  load("thread", () => api.listReplies(session.token, id, { before: earlier }), (page) => {
    if (state.thread?.id === id) applyThreadPage({ page, place: "before" });
  });
}
