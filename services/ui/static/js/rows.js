// The rows of a list of messages, in a channel or in a thread. An update changes only the rows that differ.

import { deletionOf } from "./deleting.js";
import { element } from "./dom.js";
import { messageElement, outgoingElement, outgoingStatus } from "./message.js";
import { reactionsOf } from "./reactions.js";
import { session } from "./session.js";
import { hueOf, nicknameOf, openChannel, shownNameOf, state } from "./state.js";
import { dayKey, dayName } from "./time.js";
import { editorFor, isEditing } from "./view-edit.js";
import { marks } from "./view-interests.js";

// Messages of one author within this time are a group under one name.
const GROUP_SECONDS_MAX = 5 * 60;
// Screen readers announce what is added, but not while the list is busy.
const BUSY_MS = 200;

/** What rows depend on, beside their messages. */
export const ROW_TOPICS = [
  "channels", "outbox", "users", "session", "editing", "deleting", "reactions", "connection", "marks",
];

/** The rows in an `ol`. The keyboard continues at `fallback` when the row that has the focus is removed. */
export function createList(list, fallback) {
  const log = list.closest("[role=log]");
  let busyTimer = null;
  /** Key to {element, stamp} of each row. The stamp has everything that the element was created from. */
  let shown = new Map();

  // Before others are inserted: then those that stay are not moved, and an editor keeps the focus.
  function removeRows(keptKeys) {
    for (const [key, { element: row }] of shown) {
      if (keptKeys.has(key)) continue;
      const hasFocus = row.matches("[data-message-id]") && row.contains(document.activeElement);
      if (hasFocus) fallback.focus({ preventScroll: true });
      row.remove();
    }
  }

  function setBusy() {
    log?.setAttribute("aria-busy", "true");
    clearTimeout(busyTimer);
    busyTimer = setTimeout(() => log?.setAttribute("aria-busy", "false"), BUSY_MS);
  }

  return {
    rowOf: (id) => shown.get(`message ${id}`)?.element,

    /** `isPage`: the rows are not new, so they are neither animated nor announced. */
    show(rows, isPage) {
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
        const focused = current !== old && old?.element.contains(document.activeElement) && document.activeElement;
        if (old && current !== old) old.element.remove();
        // A confirmed message replaces its outbox entry without an animation.
        if (!old && !row.isConfirmedOwn && !isPage) current.element.classList.add("is-new");
        list.insertBefore(current.element, position);
        if (focused) (counterpart(focused, current.element) ?? fallback).focus({ preventScroll: true });
      }
      shown = next;
    },
  };
}

// Where the keyboard continues in the new element of a row.
function counterpart({ dataset }, row) {
  const buttons = [...row.querySelectorAll("button, a[data-key], mark[data-key]")];
  const same = buttons.find((button) => dataset.key && button.dataset.key === dataset.key);
  return row.querySelector("textarea") ?? same ?? buttons[0];
}

/** The rows of days, the unread line, messages, and the outbox. `place` is `channel` or `thread`. */
export function rowsFor(messages, outbox, { place, unreadFrom = null }) {
  const rows = [];
  let before = null;
  for (const message of messages) {
    const day = dayKey(message.created_at);
    const startsDay = place === "channel" && (!before || dayKey(before.created_at) !== day);
    if (startsDay) {
      const name = dayName(message.created_at);
      const create = () => element("li", { className: "day" }, element("span", {}, name));
      rows.push({ key: `day before ${message.id}`, stamp: name, create });
    }
    const startsUnread = message.id === unreadFrom;
    if (startsUnread) {
      const create = () => element("li", { className: "unread" }, element("span", {}, "New messages"));
      rows.push({ key: "unread", stamp: "", create });
    }
    rows.push(messageRow(message, startsDay || startsUnread || !continues(before, message), place));
    before = message;
  }
  const isOnline = state.connection.phase === "online";
  for (const entry of outbox) {
    const asMessage = { user_id: session.userId, created_at: entry.created_at };
    const isFirst = !continues(before, asMessage);
    rows.push({
      key: `outgoing ${entry.id}`,
      stamp: JSON.stringify([outgoingStatus(entry, isOnline), isOnline, entry.problem, isFirst, entry.uploading]),
      create: () => outgoingElement(entry, { isFirst, isOnline }),
    });
    before = asMessage;
  }
  return rows;
}

function messageRow(message, isFirst, place) {
  const isMine = message.user_id === session.userId;
  const nickname = nicknameOf(message.user_id, message.nickname);
  const name = shownNameOf(message.user_id, message.nickname);
  const deleting = deletionOf(message.id);
  const reactions = message.deleted_at ? [] : reactionsOf(message);
  const mark = marks.get(message.id);
  const canChange = Boolean(openChannel()?.member);
  // A row that is being edited keeps its editor when the message changes.
  const editing = isMine && isEditing(message.id, place) && !deleting && !message.deleted_at;
  const stamp = [
    versionOf(message), nickname, name, hueOf(message.user_id), isFirst, isMine, deleting, reactions, canChange, mark,
  ];
  return {
    key: `message ${message.id}`,
    isConfirmedOwn: isMine,
    stamp: editing ? "editing" : JSON.stringify(stamp),
    create: () => messageElement(message, {
      nickname, name, isFirst, isMine, deleting, reactions, mark, canChange, place,
      editor: editing ? editorFor(message, place) : null,
    }),
  };
}

const versionOf = (message) =>
  ["updated_at", "deleted_at", "html", "pinned_at", "reply_count", "last_reply_at"].map((name) => message[name]);

const continues = (before, message) =>
  before && before.user_id === message.user_id && message.created_at - before.created_at < GROUP_SECONDS_MAX;
