// Opens the search (`/` or Ctrl+Shift+F), whose module is not part of the first view, and goes to what it has found.

import * as api from "./api.js";
import { titleOf } from "./channel-names.js";
import { goTo, showAddressed } from "./channels.js";
import { byId, element } from "./dom.js";
import { session } from "./session.js";
import { nicknameOf, state } from "./state.js";
import { fullTime } from "./time.js";
import { goToMessage } from "./view-messages.js";
import { showNotice } from "./view-settings.js";
import { goToReply } from "./view-thread.js";

let openPanel = null;

/** Called at a sign-out: the next user sees neither the query nor its results. */
export function closeSearch() {
  document.querySelector("#search")?.remove();
  openPanel = null;
}

export function openSearchView() {
  byId("search-open").addEventListener("click", open);
  addEventListener("keydown", (event) => {
    if (!session.token || event.altKey || document.querySelector("dialog[open]")) return;
    const isModified = event.ctrlKey || event.metaKey;
    const isSlash = event.key === "/" && !isModified && !event.target.closest("input, textarea");
    if (!isSlash && !(isModified && event.shiftKey && event.key.toLowerCase() === "f")) return;
    event.preventDefault();
    open();
  });
}

async function open() {
  try {
    const { makeSearch } = await import("/static/js/search.js");
    const find = (q, cursor) => api.search(session.token, q, cursor);
    openPanel ??= makeSearch({ element, find, fullTime, goToResult, nicknameOf, state, titleOf });
    openPanel();
  } catch {
    showNotice("This part of the app cannot be loaded now. Try again.");
  }
}

async function goToResult({ message_id: id, thread_id: threadId, channel_id: channelId }) {
  const channel = state.channels.get(channelId);
  if (!channel) return showNotice("You cannot see this channel any more.");
  if (threadId) return goToReply(channel, threadId, id);
  goTo(channel);
  // The event of the new address comes later.
  showAddressed();
  try {
    const message = await api.getMessage(session.token, id);
    if (state.channelId === channelId) goToMessage(message);
  } catch (problem) {
    showNotice(problem.message);
  }
}
