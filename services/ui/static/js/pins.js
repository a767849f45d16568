// Pinned messages of a channel.

import * as api from "./api.js";
import { session } from "./session.js";
import { applyMessage, messageOf } from "./state.js";
import { showNotice } from "./view-settings.js";

export async function setPinned({ id }, isPinned) {
  try {
    await api.setPinned(session.token, id, isPinned);
    const message = messageOf(id);
    // The event delivers it too, but later.
    if (message) applyMessage({ ...message, pinned_at: isPinned ? Date.now() / 1000 : undefined });
  } catch (problem) {
    showNotice(`Not ${isPinned ? "pinned" : "unpinned"}. ${problem.message}`);
  }
}
