// Deleting own messages. For some seconds the user can undo it, and nothing is sent.

import * as api from "./api.js";
import { session } from "./session.js";
import { applyMessage, changed, messageOf } from "./state.js";

const UNDO_MS = 5_000;

/** Message id to {timer, problem}. `timer`: the request is sent afterwards. `problem`: it was refused. */
const deletions = new Map();

export function openDeleting() {
  addEventListener("pagehide", deleteWaiting);
}

/** "waiting", "sending", the reason why it failed, or null. */
export function deletionOf(id) {
  const deletion = deletions.get(id);
  if (!deletion) return null;
  return deletion.problem ?? (deletion.timer ? "waiting" : "sending");
}

export function startDeleting(id) {
  deletions.set(id, { timer: setTimeout(() => sendDeletion(id), UNDO_MS) });
  changed("deleting");
}

/** Also removes the notice of a failure. */
export function undoDeleting(id) {
  clearTimeout(deletions.get(id)?.timer);
  deletions.delete(id);
  changed("deleting");
}

/** Sends at once what waits: the page is closed, or the user signs out. */
export function deleteWaiting() {
  for (const [id, { timer }] of deletions) {
    if (!timer) continue;
    clearTimeout(timer);
    sendDeletion(id);
  }
}

async function sendDeletion(id) {
  deletions.set(id, {});
  changed("deleting");
  try {
    await api.deleteMessage(session.token, id);
    deletions.delete(id);
    // The event delivers it too, but not while the socket is closed.
    const current = messageOf(id);
    if (current) applyMessage({ ...current, source: "", html: "", deleted_at: Date.now() / 1000 });
  } catch (problem) {
    deletions.set(id, { problem: problem.message });
  }
  changed("deleting");
}
