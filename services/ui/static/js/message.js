// The elements of a message: a stored one, and one in the outbox.

import { threadAddress } from "./channel-names.js";
import { startDeleting, undoDeleting } from "./deleting.js";
import { avatar, element, icon, insertSanitizedHtml, toolbar } from "./dom.js";
import { discard, edit, retry } from "./outbox.js";
import { setPinned } from "./pins.js";
import { react } from "./reactions.js";
import { session } from "./session.js";
import { mentionsUser } from "./state.js";
import { clockTime, fullTime, momentName } from "./time.js";
import { startEditing } from "./view-edit.js";
import { openPicker } from "./view-picker.js";

/**
 * `editor` replaces the text while the message is edited. `deleting`: as `deletionOf` returns it. `canChange`: the user
 * is a member of the channel. `place` is `channel` or `thread`.
 */
export function messageElement(message, options) {
  const { nickname, isFirst, isMine, deleting, editor } = options;
  const text = element("div", { className: "message-text" });
  if (editor) text.append(editor);
  else if (deleting) text.append(deletionNote(message.id, deleting));
  else if (message.deleted_at) text.append(element("p", { className: "tombstone" }, "This message was deleted"));
  else {
    insertSanitizedHtml(text, message.html);
    for (const mention of text.querySelectorAll("mark")) {
      // Without an id it mentions everybody.
      const { userId } = mention.dataset;
      mention.classList.toggle("is-me", !userId || Number(userId) === session.userId);
    }
    // At the end of the last line of text.
    if (message.edited_at) lastParagraph(text).append(" ", editedMark(message.edited_at));
  }
  const author = { userId: message.user_id, nickname, isFirst, isMine, seconds: message.created_at };
  const created = row(author, text, { "data-message-id": message.id },
    footOf(message, options), ...(editor || deleting ? [] : actionsOf(message, options)));
  created.classList.toggle("is-mention", !message.deleted_at && mentionsUser(message, session.userId));
  return created;
}

// Buttons and links have keys, so that the keyboard continues at the same one when the row is replaced.
function actionsOf(message, { isMine, canChange, place }) {
  const { id, deleted_at: deletedAt, pinned_at: pinnedAt } = message;
  const actions = [];
  const add = (name, label, onclick) => actions.push(element("button", {
    className: name, type: "button", title: label, "aria-label": `${label} this message`, "data-key": name, onclick,
  }, icon(name)));
  if (canChange && !deletedAt) add("react", "React to", ({ currentTarget }) => openPicker(message, currentTarget));
  if (canChange && !deletedAt && place === "channel") {
    const title = "Reply in thread";
    actions.push(element("a", { className: "reply", href: threadAddress(message), title, "aria-label": title,
      "data-key": "reply" }, icon("thread")));
  }
  if (canChange && !deletedAt) add("pin", pinnedAt ? "Unpin" : "Pin", () => setPinned(message, !pinnedAt));
  if (isMine && !deletedAt) {
    add("edit", "Edit", () => startEditing(id, place));
    add("delete", "Delete", () => startDeleting(id));
  }
  if (actions.length === 0) return [];
  const bar = toolbar("Actions for this message", "actions", actions);
  // Only for fingers, which cannot hover: it shows the others.
  const more = element("button", {
    className: "more", type: "button", title: "Actions", "aria-label": "Actions for this message",
    "aria-expanded": "false", "data-key": "more",
    onclick: () => more.setAttribute("aria-expanded", String(more.getAttribute("aria-expanded") === "false")),
  }, icon("more"));
  return [more, bar];
}

// Below the text: the pin, the reactions, and the thread.
function footOf(message, { reactions, canChange, place }) {
  const parts = [];
  if (message.pinned_at && !message.deleted_at) {
    const title = `Pinned ${fullTime(message.pinned_at)}`;
    parts.push(element("span", { className: "pinned", title }, icon("pin"), "Pinned"));
  }
  for (const { emoji, count, names, isMine } of reactions) {
    parts.push(element("button", {
      className: "reaction", type: "button", title: names, disabled: !canChange, "data-key": `reaction ${emoji}`,
      "aria-pressed": isMine, "aria-label": `${emoji} ${count}: ${names}`,
      onclick: () => react(message, emoji, !isMine),
    }, element("span", { className: "emoji" }, emoji), String(count)));
  }
  if (message.reply_count > 0 && place === "channel") {
    const { reply_count: count, last_reply_at: last } = message;
    const text = `${count} ${count === 1 ? "reply" : "replies"}${last ? `, last ${momentName(last)}` : ""}`;
    parts.push(element("a", { className: "replies", href: threadAddress(message), "data-key": "replies" }, text));
  }
  return parts.length > 0 ? element("div", { className: "message-foot" }, ...parts) : null;
}

function deletionNote(id, deleting) {
  const button = (label, onclick) => element("button", { type: "button", className: "link-button", onclick }, label);
  const note = {
    waiting: ["Message deleted. ", button("Undo", () => undoDeleting(id))],
    sending: ["Deleting…"],
  }[deleting] ?? [`Not deleted. ${deleting} `, button("Try again", () => startDeleting(id)), " ",
    button("Keep it", () => undoDeleting(id))];
  return element("p", { className: "tombstone", role: "status" }, ...note);
}

const lastParagraph = (text) => (text.lastElementChild?.matches("p") ? text.lastElementChild : text);

const editedMark = (seconds) =>
  element("span", { className: "message-edited", title: `Edited ${fullTime(seconds)}` }, "(edited)");

/** What is shown of an entry in the outbox. `delayed`: it cannot be sent now. */
export const outgoingStatus = ({ status, isDelayed }, isOnline) =>
  (["waiting", "sending"].includes(status) && (isDelayed || !isOnline) ? "delayed" : status);

/** Shows the source, because only the server renders Markdown. */
export function outgoingElement(entry, { isFirst, isOnline }) {
  const status = outgoingStatus(entry, isOnline);
  const button = (label, onclick) => element("button", { type: "button", className: "link-button", onclick }, label);
  const delay = isOnline ? "The server does not answer. Flack tries again." : "Waiting for the connection.";
  const note = {
    waiting: ["Waiting…"],
    sending: ["Sending…"],
    delayed: [delay, " ", button("Discard", () => discard(entry.id))],
    sent: ["Sent"],
    refused: [`Not sent. ${entry.problem} `, button("Edit", () => edit(entry.id)), " ",
      button("Try again", () => retry(entry.id)), " ", button("Discard", () => discard(entry.id))],
  }[status];
  const source = element("p", { className: "as-typed" }, entry.source);
  const text = element("div", { className: "message-text" }, source,
    element("p", { className: "outgoing-note", role: status === "refused" ? "alert" : null }, ...note));
  const { userId, nickname } = session;
  const author = { userId: userId ?? 0, nickname, isFirst, isMine: true, seconds: entry.created_at };
  return row(author, text, { "data-outgoing": status });
}

function row({ userId, nickname, isFirst, isMine, seconds }, text, attributes, ...others) {
  const dateTime = new Date(seconds * 1000).toISOString();
  const time = element("time", { className: "message-time", dateTime, title: fullTime(seconds) }, clockTime(seconds));
  // Screen readers get the author of every message, also where it is not visible.
  const author = isFirst
    ? element("button", { type: "button", className: "message-author", "data-author-id": userId, "data-key": "author" },
      nickname)
    : element("span", { className: "message-author unseen" }, nickname);
  const head = element("div", { className: `message-head${isFirst ? "" : " is-brief"}` }, author, time);
  const className = `message${isFirst ? " is-first" : ""}${isMine ? " is-mine" : ""}`;
  return element("li", { className, ...attributes },
    element("div", { className: "message-side" }, isFirst ? avatar(userId, nickname) : ""), head, text, ...others);
}
