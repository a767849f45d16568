// The list of messages. An update changes only the rows that differ, and the row that is being read stays in its place.
// Only a part of the messages has rows: pages are loaded near both ends, and messages far out of sight are forgotten.

import { byId } from "./dom.js";
import { isEditing } from "./view-edit.js";
import { loadAround, loadCursors, loadEarlier, loadLater, loadNewest } from "./pages.js";
import { createList, ROW_TOPICS, rowsFor } from "./rows.js";
import { session } from "./session.js";
import { changed, forgetMessages, messagesInOrder, on, outgoingIn, state } from "./state.js";

// Of more messages than this, some are forgotten: so many that a page can be loaded before it happens again.
const MESSAGES_SHOWN_MAX = 300;
const PAGE_MESSAGES = 50;
// On each side of what is in sight, so many messages are kept. They are longer than LOAD_AHEAD_PX.
const MESSAGES_KEPT_BESIDE = 100;
// The next page is loaded when its place is this close.
const LOAD_AHEAD_PX = 1_000;
// A reader who is this close to the end follows new messages.
const NEAR_END_PX = 80;

const scroller = byId("scroller");
const column = byId("column");
const list = createList(byId("messages"), scroller);
const newest = byId("newest");

/** The channel whose rows are shown. */
let shownChannelId = null;
let followsEnd = true;
let hasNewMessages = false;
/** The value of `state.pagesApplied` at the last update. */
let shownPages = 0;
/** Whether the next update shows the end, wherever the list is scrolled to meanwhile. */
let isJumping = false;
/** The id of the message that the next update scrolls to, if it has it. */
let sought = null;
/** Whether messages cannot be forgotten before their page cursors are loaded. */
let needsCursors = false;

export function openMessagesView() {
  on(["channel", "messages", ...ROW_TOPICS], show);
  scroller.addEventListener("scroll", () => {
    const followed = followsEnd;
    followsEnd = state.range.later === null && pixelsBelow() < NEAR_END_PX;
    if (followsEnd && !followed) changed("reading");
    handleMove();
  }, { passive: true });
  newest.addEventListener("click", () => {
    goToEnd();
    if (followsEnd) scrollToEnd();
    scroller.focus({ preventScroll: true });
  });
  byId("earlier").addEventListener("click", loadEarlier);
  byId("later").addEventListener("click", loadLater);
  // The height changes with new rows, the keyboard of a phone, the composer and loaded images. The observer is called
  // after the layout and before the browser draws, so that scrolling needs no second layout.
  const observer = new ResizeObserver(() => {
    if (followsEnd) scrollToEnd();
    handleMove();
  });
  observer.observe(scroller);
  observer.observe(column);
}

const pixelsBelow = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;

// Reads the layout: called after the browser has made it.
function handleMove() {
  if (followsEnd) hasNewMessages = false;
  const isFarAway = state.range.later !== null || pixelsBelow() > scroller.clientHeight;
  showJumpButton(!followsEnd && (hasNewMessages || isFarAway));

  // The layout does not have the last page yet, or there are too many messages.
  if (shownPages !== state.pagesApplied || needsCursors) return;
  // At the end, earlier messages are loaded only if there are too few to scroll.
  const mayLoadEarlier = !followsEnd || scroller.scrollHeight < scroller.clientHeight + 2 * NEAR_END_PX;
  if (mayLoadEarlier && scroller.scrollTop < LOAD_AHEAD_PX) loadEarlier();
  if (pixelsBelow() < LOAD_AHEAD_PX) loadLater();
}

function showJumpButton(isShown) {
  newest.hidden = !isShown;
  newest.textContent = hasNewMessages ? "New messages" : "Jump to latest";
}

function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

// Shows the end of the list from the next change on.
function followEnd() {
  followsEnd = true;
  hasNewMessages = false;
  newest.hidden = true;
}

/** As `followEnd`, also when the end has to be loaded first. */
export function goToEnd() {
  if (state.range.later === null) return followEnd();
  loadNewest(() => {
    isJumping = true;
  });
}

/** Scrolls to a message of the open channel, which is loaded before if it is not. */
export function goToMessage({ id, cursor }) {
  const seek = () => {
    sought = id;
    changed("messages");
  };
  // Not before the messages are loaded: a channel that is opened now forgets what was sought in another one.
  if (state.messages.has(id)) seek();
  else loadAround(cursor, seek);
}

/** Whether the newest message is visible to the user. On a phone, a thread covers it. */
export const isReading = () => followsEnd && shownChannelId === state.channelId && !document.hidden
  && (!state.thread || scroller.checkVisibility({ visibilityProperty: true }));

/** The message that is being read; null at the end of the list. */
export const readingId = () => (followsEnd ? null : rowsInSight()?.id ?? null);

/** Called when a message of another user has arrived. */
export function showNewMessagesButton() {
  if (followsEnd) return;
  hasNewMessages = true;
  showJumpButton(true);
}

function show() {
  if (!session.nickname) return;
  if (shownChannelId !== state.channelId) {
    shownChannelId = state.channelId;
    isJumping = false;
    sought = null;
    followEnd();
  }
  const sight = followsEnd || isJumping ? null : rowsInSight();
  forgetFarMessages(sight);
  const messages = messagesInOrder();
  const outbox = outgoingIn(state.channelId);
  const hasRows = messages.length > 0 || outbox.length > 0;
  byId("earlier").hidden = state.range.earlier === null;
  byId("later").hidden = state.range.later === null;
  byId("loading").hidden = hasRows || state.loaded.messages;
  byId("empty").hidden = hasRows || !state.loaded.messages;

  const isPage = shownPages !== state.pagesApplied;
  shownPages = state.pagesApplied;
  list.show(rowsFor(messages, outbox, { place: "channel", unreadFrom: state.unreadFrom }), isPage);
  if (isJumping) {
    isJumping = false;
    followEnd();
    scrollToEnd();
  } else if (list.rowOf(sought)) showSought();
  else if (sight) keepInPlace(sight);
}

function showSought() {
  const row = list.rowOf(sought);
  sought = null;
  followsEnd = false;
  row.scrollIntoView({ block: "center" });
  row.tabIndex = -1;
  row.focus({ preventScroll: true });
}

// The first message whose text begins in sight, and the last one; null without one.
function rowsInSight() {
  const { top, bottom } = scroller.getBoundingClientRect();
  let first = null;
  let last = null;
  for (const row of byId("messages").querySelectorAll("[data-message-id]")) {
    const textTop = textTopOf(row);
    if (textTop > bottom) break;
    last = { id: Number(row.dataset.messageId), textTop };
    if (textTop >= top) first ??= last;
  }
  // A message may be longer than the window.
  return last && { ...(first ?? last), lastId: last.id };
}

// The text and not its row: the row may get or lose the author's name when the message before it changes.
const textTopOf = (row) => row.querySelector(".message-text").getBoundingClientRect().top;

// Browsers do this too, but not all of them, and not at the top of the list.
function keepInPlace({ id, textTop }) {
  const row = list.rowOf(id);
  if (!row) return;
  const moved = textTopOf(row) - textTop;
  if (Math.abs(moved) >= 1) scroller.scrollTop += moved;
}

// First at the end that is farther from what is in sight, and never a message that is being edited.
function forgetFarMessages(sight) {
  const excess = () => state.messages.size - MESSAGES_SHOWN_MAX;
  needsCursors = false;
  if (excess() <= 0) return;
  const messages = messagesInOrder();
  const indexOf = (id) => messages.findIndex((message) => message.id === id);
  const edited = messages.findIndex(({ id }) => isEditing(id, "channel"));
  const spare = (count, editedCount) =>
    Math.min(count - MESSAGES_KEPT_BESIDE, edited < 0 ? Infinity : editedCount);
  const above = spare(sight ? indexOf(sight.id) : messages.length, edited);
  const below = spare(sight ? messages.length - 1 - indexOf(sight.lastId) : 0, messages.length - 1 - edited);
  const ends = [["earlier", above], ["later", below]].sort((a, b) => b[1] - a[1]);
  for (const [end, max] of ends) {
    if (excess() > 0 && max > 0) forgetMessages(end, Math.min(excess() + PAGE_MESSAGES, max), max);
  }
  // Messages from the socket have no page cursor.
  const hasAllCursors = state.range.later !== null || messages.at(-1).cursor;
  needsCursors = excess() > 0 && edited < 0 && !hasAllCursors;
  if (needsCursors) loadCursors();
}
