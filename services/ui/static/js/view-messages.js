// The list of messages. An update changes only the rows that differ, and the row that is being read stays in its place.
// Only a part of the messages has rows: pages are loaded near both ends, and messages far out of sight are forgotten.

import { byId, element } from "./dom.js";
import { deletionOf } from "./deleting.js";
import { editorFor, isEditing } from "./view-edit.js";
import { messageElement, outgoingElement, outgoingStatus } from "./message.js";
import { loadCursors, loadEarlier, loadLater, loadNewest } from "./pages.js";
import { session } from "./session.js";
import { changed, forgetMessages, messagesInOrder, nicknameOf, on, state } from "./state.js";
import { dayKey, dayName } from "./time.js";

// Of more messages than this, some are forgotten: so many that a page can be loaded before it happens again.
const MESSAGES_SHOWN_MAX = 300;
const PAGE_MESSAGES = 50;
// On each side of what is in sight, so many messages are kept. They are longer than LOAD_AHEAD_PX.
const MESSAGES_KEPT_BESIDE = 100;
// The next page is loaded when its place is this close.
const LOAD_AHEAD_PX = 1_000;
// Messages of one author within this time are a group under one name.
const GROUP_SECONDS_MAX = 5 * 60;
// A reader who is this close to the end follows new messages.
const NEAR_END_PX = 80;
// Screen readers do not announce rows that were added while the list is busy.
const BUSY_MS = 200;

const scroller = byId("scroller");
const column = byId("column");
const list = byId("messages");
const log = byId("log");
const newest = byId("newest");

/** The channel whose rows are shown. */
let shownChannelId = null;
let followsEnd = true;
let hasNewMessages = false;
/** Key to {element, stamp} of each row in the list. The stamp has everything that the element was created from. */
let shown = new Map();
/** The value of `state.pagesApplied` at the last update. */
let shownPages = 0;
/** Whether the next update shows the end, wherever the list is scrolled to meanwhile. */
let isJumping = false;
/** Whether messages cannot be forgotten before their page cursors are loaded. */
let needsCursors = false;
let busyTimer = null;

export function openMessagesView() {
  on(["channel", "messages", "outbox", "users", "session", "editing", "deleting", "connection"], show);
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

/** Whether the newest message is visible to the user. */
export const isReading = () => followsEnd && shownChannelId === state.channelId && !document.hidden;

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
    followEnd();
  }
  const sight = followsEnd || isJumping ? null : rowsInSight();
  forgetFarMessages(sight);
  const messages = messagesInOrder();
  const outbox = state.outbox.filter(({ channel_id: id, shownAs }) => id === state.channelId && !shownAs);
  const hasRows = messages.length > 0 || outbox.length > 0;
  byId("earlier").hidden = state.range.earlier === null;
  byId("later").hidden = state.range.later === null;
  byId("loading").hidden = hasRows || state.loaded.messages;
  byId("empty").hidden = hasRows || !state.loaded.messages;

  const rows = rowsFor(messages, outbox);
  // Screen readers announce what is added, but no page.
  const isPage = shownPages !== state.pagesApplied;
  shownPages = state.pagesApplied;
  if (isPage) setBusy();
  removeRows(new Set(rows.map(({ key }) => key)));
  const next = new Map();
  let position = list.firstElementChild;
  for (const row of rows) {
    const old = shown.get(row.key);
    const current = old?.stamp === row.stamp ? old : { element: row.create(), stamp: row.stamp };
    next.set(row.key, current);
    const isInPlace = old?.element === position;
    if (isInPlace) position = position.nextElementSibling;
    if (current === old && isInPlace) continue;
    const hadFocus = current !== old && old?.element.contains(document.activeElement);
    if (old && current !== old) old.element.remove();
    // A confirmed message replaces its outbox entry without an animation.
    if (!old && !row.isConfirmedOwn && !isPage) current.element.classList.add("is-new");
    list.insertBefore(current.element, position);
    // The keyboard continues in the new row.
    if (hadFocus) (current.element.querySelector("textarea, button") ?? scroller).focus({ preventScroll: true });
  }
  shown = next;
  if (isJumping) {
    isJumping = false;
    followEnd();
    scrollToEnd();
  } else if (sight) keepInPlace(sight);
}

// Before others are inserted: then those that stay are not moved, and an editor keeps the focus.
function removeRows(keptKeys) {
  for (const [key, { element: row }] of shown) {
    if (keptKeys.has(key)) continue;
    // The keyboard continues at the list.
    const hasFocus = row.matches("[data-message-id]") && row.contains(document.activeElement);
    if (hasFocus) scroller.focus({ preventScroll: true });
    row.remove();
  }
}

function setBusy() {
  log.setAttribute("aria-busy", "true");
  clearTimeout(busyTimer);
  busyTimer = setTimeout(() => log.setAttribute("aria-busy", "false"), BUSY_MS);
}

// The first message whose text begins in sight, and the last one; null without one.
function rowsInSight() {
  const { top, bottom } = scroller.getBoundingClientRect();
  let first = null;
  let last = null;
  for (const row of list.querySelectorAll("[data-message-id]")) {
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
  const row = shown.get(`message ${id}`)?.element;
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
  const edited = messages.findIndex(({ id }) => isEditing(id));
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

// The rows of the list: days, the unread line, messages, and the outbox.
function rowsFor(messages, outbox) {
  const rows = [];
  let before = null;
  for (const message of messages) {
    const day = dayKey(message.created_at);
    const startsDay = !before || dayKey(before.created_at) !== day;
    if (startsDay) {
      const name = dayName(message.created_at);
      const create = () => element("li", { className: "day" }, element("span", {}, name));
      rows.push({ key: `day before ${message.id}`, stamp: name, create });
    }
    const startsUnread = message.id === state.unreadFrom;
    if (startsUnread) {
      const create = () => element("li", { className: "unread" }, element("span", {}, "New messages"));
      rows.push({ key: "unread", stamp: "", create });
    }
    rows.push(messageRow(message, startsDay || startsUnread || !continues(before, message)));
    before = message;
  }
  const isOnline = state.connection.phase === "online";
  for (const entry of outbox) {
    const asMessage = { user_id: session.userId, created_at: entry.created_at };
    const isFirst = !continues(before, asMessage);
    rows.push({
      key: `outgoing ${entry.id}`,
      stamp: `${outgoingStatus(entry, isOnline)} ${isOnline} ${entry.problem} ${isFirst}`,
      create: () => outgoingElement(entry, { isFirst, isOnline }),
    });
    before = asMessage;
  }
  return rows;
}

function messageRow(message, isFirst) {
  const isMine = message.user_id === session.userId;
  const nickname = nicknameOf(message.user_id, message.nickname);
  const deleting = deletionOf(message.id);
  // A row that is being edited keeps its editor when the message changes.
  const editing = isMine && isEditing(message.id) && !deleting && !message.deleted_at;
  return {
    key: `message ${message.id}`,
    isConfirmedOwn: isMine,
    stamp: editing ? "editing" : JSON.stringify([versionOf(message), nickname, isFirst, isMine, deleting]),
    create: () =>
      messageElement(message, { nickname, isFirst, isMine, deleting, editor: editing ? editorFor(message) : null }),
  };
}

const versionOf = ({ updated_at: updatedAt, deleted_at: deletedAt, html }) => [updatedAt, deletedAt, html];

const continues = (before, message) =>
  before && before.user_id === message.user_id && message.created_at - before.created_at < GROUP_SECONDS_MAX;
