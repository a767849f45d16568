// What was said: the list, kept in step with the state by touching only what has changed in it.

import { byId, element } from "./dom.js";
import { editorFor, isEditing } from "./view-edit.js";
import { messageElement, outgoingElement } from "./message.js";
import { session } from "./session.js";
import { messagesInOrder, nicknameOf, on, state } from "./state.js";
import { dayKey, dayName } from "./time.js";

// More than this is not drawn until it is asked for.
const SHOWN_FIRST = 300;
// Somebody who says more within this time says it under one name.
const GROUP_SECONDS_MAX = 5 * 60;
// Closer to the end than this counts as reading along.
const NEAR_END_PX = 80;

const scroller = byId("scroller");
const list = byId("messages");
const newest = byId("newest");

let shownMax = SHOWN_FIRST;
let followsEnd = true;
/** key -> {element, stamp}: what stands in the list, and of what it was made. */
let drawn = new Map();

export function openMessagesView() {
  on(["messages", "outbox", "users", "session", "editing"], show);
  scroller.addEventListener("scroll", () => {
    followsEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    if (followsEnd) newest.hidden = true;
  }, { passive: true });
  newest.addEventListener("click", scrollToEnd);
  byId("earlier").addEventListener("click", () => {
    shownMax += SHOWN_FIRST;
    show();
  });
  // The place for reading changes with the keyboard of a phone, the composer's height and late pictures.
  const observer = new ResizeObserver(() => followsEnd && scrollToEnd());
  observer.observe(scroller);
  observer.observe(list);
}

export function scrollToEnd() {
  followsEnd = true;
  newest.hidden = true;
  scroller.scrollTop = scroller.scrollHeight;
}

/** Whether the reader has the newest message in sight. */
export const isReading = () => followsEnd && !document.hidden && document.hasFocus();

/** Called for a message of somebody else that has just come in. */
export function noteNew() {
  if (!followsEnd) newest.hidden = false;
}

function show() {
  if (!session.nickname) return;
  const messages = messagesInOrder();
  byId("earlier").hidden = messages.length <= shownMax;
  byId("empty").hidden = !state.loaded || messages.length > 0 || state.outbox.length > 0;

  const rows = rowsFor(messages.slice(-shownMax));
  const next = new Map();
  let place = list.firstElementChild;
  for (const row of rows) {
    const old = drawn.get(row.key);
    const fresh = old?.stamp === row.stamp ? old : { element: row.make(), stamp: row.stamp };
    next.set(row.key, fresh);
    if (fresh === old && old.element === place) {
      place = place.nextElementSibling;
    } else {
      if (old && old.element === place) place = place.nextElementSibling;
      if (old && fresh !== old) old.element.remove();
      // What takes the place of something that stood there already, a confirmed message above all, moves nothing.
      if (!old && !row.isConfirmedOwn) fresh.element.classList.add("is-new");
      list.insertBefore(fresh.element, place);
    }
  }
  for (const [key, { element: old }] of drawn) if (!next.has(key)) old.remove();
  drawn = next;

  // Screen readers are told of what is added from now on, not of everything that was there.
  if (state.loaded) list.setAttribute("aria-busy", "false");
  if (followsEnd) scrollToEnd();
}

// What the list consists of: days, a line where the unread begins, messages, and what is on its way.
// The stamp holds all that a row is made of: the same stamp, the same row.
function rowsFor(messages) {
  const rows = [];
  let before = null;
  for (const message of messages) {
    const day = dayKey(message.created_at);
    const startsDay = !before || dayKey(before.created_at) !== day;
    if (startsDay) {
      const name = dayName(message.created_at);
      rows.push({ key: `day ${day}`, stamp: name, make: () => element("li", { className: "day" }, element("span", {}, name)) });
    }
    const startsUnread = message.id === state.unreadFrom;
    if (startsUnread) {
      rows.push({ key: "unread", stamp: "", make: () => element("li", { className: "unread" }, element("span", {}, "New since you were here")) });
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
      make: () => outgoingElement(entry, isFirst),
    });
    before = asMessage;
  }
  return rows;
}

function messageRow(message, isFirst) {
  const isMine = message.user_id === session.userId;
  const nickname = nicknameOf(message);
  // A row that is being edited keeps its editor, whatever happens to the message meanwhile.
  const editing = isMine && isEditing(message.id);
  return {
    key: `message ${message.id}`,
    isConfirmedOwn: isMine,
    stamp: editing ? "editing" : JSON.stringify([message.updated_at, message.html, nickname, isFirst, isMine]),
    make: () => messageElement(message, { nickname, isFirst, isMine, editor: editing ? editorFor(message) : null }),
  };
}

const continues = (before, message) =>
  before && before.user_id === message.user_id && message.created_at - before.created_at < GROUP_SECONDS_MAX;
