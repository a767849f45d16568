// Loads pages of messages: the newest one, and those next to the loaded messages. One page at a time.

import * as api from "./api.js";
import { isLoading, load } from "./lists.js";
import { session } from "./session.js";
import { applyPages, messagesInOrder, state } from "./state.js";

// The server's limit.
const PAGE_MESSAGES_MAX = 100;

// Of the channel that is open now: a page of another one is not applied, because the next load replaces this one.
const readPage = (position) => api.listMessagesPage(session.token, state.channelId, position);

const newest = async () => {
  // A message that was posted since the page was read arrives on the socket.
  const page = { ...(await readPage()), later: null };
  return [{ page, place: "instead" }];
};

/** Loads what is shown again. `readingId` returns the message that is being read, or null at the end. */
export function reloadMessages(readingId) {
  load("messages", () => around(cursorNear(readingId())), applyPages);
}

/** Loads the newest messages instead of those that are loaded. Calls `shown` before they are shown. */
export function loadNewest(shown = () => {}) {
  load("messages", newest, (pages) => {
    shown();
    applyPages(pages);
  });
}

/** Loads the messages around one, of which the page cursor is known. Then calls `shown`. */
export function loadAround(cursor, shown) {
  load("messages", () => around(cursor), (pages) => {
    applyPages(pages);
    shown();
  });
}

/** Loads what was posted since. The socket delivers a channel to its members, but everybody can read a public one. */
export function loadPosted() {
  if (!state.loaded.messages || state.range.later !== null || isLoading("messages")) return;
  const after = messagesInOrder().findLast(({ cursor }) => cursor)?.cursor;
  if (!after) return loadNewest();
  load("messages", async () => [{ page: await readPage({ after }), place: "after" }], applyPages);
}

export const loadEarlier = () => loadNextTo("earlier", "before");

export const loadLater = () => loadNextTo("later", "after");

/** Loads page cursors of messages that the socket has delivered, the first ones without. */
export function loadCursors() {
  if (isLoading("messages")) return;
  const after = messagesInOrder().findLast(({ cursor }) => cursor)?.cursor;
  const position = { limit: PAGE_MESSAGES_MAX, ...(after && { after }) };
  load("messages", async () => [{ page: await readPage(position), place: "over" }], applyPages);
}

function loadNextTo(end, place) {
  const cursor = state.range[end];
  if (cursor === null || isLoading("messages")) return;
  const read = async () => [{ page: await readPage({ [place]: cursor }), place }];
  // Messages at this end may have been forgotten meanwhile: then the page would not be next to the others.
  load("messages", read, (pages) => applyPages(state.range[end] === cursor ? pages : []));
}

// The page before the cursor, and the page from there on, which begins with the message of the cursor.
async function around(cursor) {
  if (!cursor) return newest();
  const before = await readPage({ before: cursor });
  const pages = [{ page: before, place: "instead" }];
  if (before.later !== null) {
    pages.push({ page: await readPage({ after: before.later }), place: "after" });
  }
  return pages;
}

// The page cursor of a message, or of the one before it that has one.
function cursorNear(id) {
  if (id === null) return null;
  return messagesInOrder().findLast((message) => message.cursor && message.id <= id)?.cursor ?? null;
}
