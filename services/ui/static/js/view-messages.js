// The list of messages. An update changes only the rows that differ.

import { byId, element } from "./dom.js";
import { editorFor, isEditing } from "./view-edit.js";
import { messageElement, outgoingElement } from "./message.js";
import { session } from "./session.js";
import { messagesInOrder, nicknameOf, on, state } from "./state.js";
import { dayKey, dayName } from "./time.js";

// Earlier messages are shown on request, as many at a time.
const PAGE_LENGTH = 300;
// Messages of one author within this time are a group under one name.
const GROUP_SECONDS_MAX = 5 * 60;
// A reader who is this close to the end follows new messages.
const NEAR_END_PX = 80;

const scroller = byId("scroller");
const list = byId("messages");
const newest = byId("newest");

let shownMax = PAGE_LENGTH;
let followsEnd = true;
/** Key to {element, stamp} of each row in the list. The stamp has everything that the element was created from. */
let shown = new Map();

export function openMessagesView() {
  on(["messages", "outbox", "users", "session", "editing"], show);
  scroller.addEventListener("scroll", () => {
    followsEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    if (followsEnd) newest.hidden = true;
  }, { passive: true });
  newest.addEventListener("click", scrollToEnd);
  byId("earlier").addEventListener("click", () => {
    shownMax += PAGE_LENGTH;
    show();
  });
  // The height changes with the keyboard of a phone, the composer and loaded images.
  const observer = new ResizeObserver(() => followsEnd && scrollToEnd());
  observer.observe(scroller);
  observer.observe(list);
}

export function scrollToEnd() {
  followsEnd = true;
  newest.hidden = true;
  scroller.scrollTop = scroller.scrollHeight;
}

/** Whether the newest message is visible to the user. */
export const isReading = () => followsEnd && !document.hidden && document.hasFocus();

/** Called when a message of another user has arrived. */
export function showNewMessagesButton() {
  if (!followsEnd) newest.hidden = false;
}

function show() {
  if (!session.nickname) return;
  const messages = messagesInOrder();
  byId("earlier").hidden = messages.length <= shownMax;
  byId("empty").hidden = !state.loaded || messages.length > 0 || state.outbox.length > 0;

  const rows = rowsFor(messages.slice(-shownMax));
  const next = new Map();
  let position = list.firstElementChild;
  for (const row of rows) {
    const old = shown.get(row.key);
    const current = old?.stamp === row.stamp ? old : { element: row.create(), stamp: row.stamp };
    next.set(row.key, current);
    const isInPlace = old?.element === position;
    if (isInPlace) position = position.nextElementSibling;
    if (current === old && isInPlace) continue;
    if (old && current !== old) old.element.remove();
    // A confirmed message replaces its outbox entry without an animation.
    if (!old && !row.isConfirmedOwn) current.element.classList.add("is-new");
    list.insertBefore(current.element, position);
  }
  for (const [key, { element: old }] of shown) if (!next.has(key)) old.remove();
  shown = next;

  // Screen readers announce what is added from now on.
  if (state.loaded) list.setAttribute("aria-busy", "false");
  if (followsEnd) scrollToEnd();
}

// The rows of the list: days, the unread line, messages, and the outbox.
function rowsFor(messages) {
  const rows = [];
  let before = null;
  for (const message of messages) {
    const day = dayKey(message.created_at);
    const startsDay = !before || dayKey(before.created_at) !== day;
    if (startsDay) {
      const name = dayName(message.created_at);
      const create = () => element("li", { className: "day" }, element("span", {}, name));
      rows.push({ key: `day ${day}`, stamp: name, create });
    }
    const startsUnread = message.id === state.unreadFrom;
    if (startsUnread) {
      const create = () => element("li", { className: "unread" }, element("span", {}, "Unread messages"));
      rows.push({ key: "unread", stamp: "", create });
    }
    rows.push(messageRow(message, startsDay || startsUnread || !continues(before, message)));
    before = message;
  }
  for (const entry of state.outbox) {
    if (entry.shownAs) continue;
    const asMessage = { user_id: session.userId, created_at: entry.created_at };
    const isFirst = !continues(before, asMessage);
    rows.push({
      key: `outgoing ${entry.id}`,
      stamp: `${entry.status} ${entry.problem} ${isFirst}`,
      create: () => outgoingElement(entry, isFirst),
    });
    before = asMessage;
  }
  return rows;
}

function messageRow(message, isFirst) {
  const isMine = message.user_id === session.userId;
  const nickname = nicknameOf(message);
  // A row that is being edited keeps its editor when the message changes.
  const editing = isMine && isEditing(message.id);
  return {
    key: `message ${message.id}`,
    isConfirmedOwn: isMine,
    stamp: editing ? "editing" : JSON.stringify([message.updated_at, message.html, nickname, isFirst, isMine]),
    create: () =>
      messageElement(message, { nickname, isFirst, isMine, editor: editing ? editorFor(message) : null }),
  };
}

const continues = (before, message) =>
  before && before.user_id === message.user_id && message.created_at - before.created_at < GROUP_SECONDS_MAX;
