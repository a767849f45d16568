// The elements of a message: a stored one, and one in the outbox.

import { threadAddress } from "./channel-names.js";
import { startDeleting, undoDeleting } from "./deleting.js";
import { thumbnail } from "./attachments.js";
import { avatar, element, icon, insertSanitizedHtml, toolbar } from "./dom.js";
import { bytesOf, filesElement } from "./files.js";
import { discard, edit, retry } from "./outbox.js";
import { setPinned } from "./pins.js";
import { react } from "./reactions.js";
import { session } from "./session.js";
import { mentionsUser, shownNameOf } from "./state.js";
import { clockTime, fullTime, momentName } from "./time.js";
import { startEditing } from "./view-edit.js";
import { openPicker } from "./view-picker.js";

/**
 * `editor` replaces the text while the message is edited. `deleting`: as `deletionOf` returns it. `canChange`: the user
 * is a member of the channel. `mark`: the interests that it matches, as text. `place` is `channel` or `thread`.
 */
export function messageElement(message, options) {
  const { nickname, name, isFirst, isMine, deleting, editor } = options;
  const text = element("div", { className: "message-text" });
  if (editor) text.append(editor);
  else if (deleting) text.append(deletionNote(message.id, deleting));
  else if (message.deleted_at) text.append(element("p", { className: "tombstone" }, "This message was deleted"));
  else {
    insertSanitizedHtml(text, message.html);
    for (const [index, mention] of text.querySelectorAll("mark").entries()) {
      // Without an id it mentions everybody.
      const { userId } = mention.dataset;
      mention.classList.toggle("is-me", !userId || Number(userId) === session.userId);
      // Opens the profile; see view-profile.js.
      if (userId) Object.assign(mention, { role: "button", tabIndex: 0 }).dataset.key = `mention ${index}`;
    }
    // At the end of the last line of text.
    if (message.edited_at) lastParagraph(text).append(" ", editedMark(message.edited_at));
    text.append(...(message.previews ?? []).map(previewElement));
    if (message.files) text.append(filesElement(message));
  }
  const author = { userId: message.user_id, nickname, name, isFirst, isMine, seconds: message.created_at };
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

// Below the text: the pin, the mark, the reactions, and the thread.
function footOf(message, { reactions, mark, canChange, place }) {
  const parts = [];
  if (message.pinned_at && !message.deleted_at) {
    const title = `Pinned ${fullTime(message.pinned_at)}`;
    parts.push(element("span", { className: "pinned", title }, icon("pin"), "Pinned"));
  }
  if (mark && !message.deleted_at) {
    const title = "This message matches your interests";
    parts.push(element("span", { className: "marked", title }, icon("tag"), `Matches: ${mark}`));
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

/** What a linked page says of itself. */
function previewElement({ url, title, description }) {
  const link = element("a", { href: url, target: "_blank", rel: "nofollow noopener noreferrer" }, title);
  return element("blockquote", {}, element("p", {}, link), description ? element("p", {}, description) : null);
}

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
    sending: [entry.uploading ? `Sending file ${entry.uploading} of ${entry.files.length}…` : "Sending…"],
    delayed: [delay, " ", button("Discard", () => discard(entry.id))],
    sent: ["Sent"],
    refused: [`Not sent. ${entry.problem} `, button("Edit", () => edit(entry.id)), " ",
      button("Try again", () => retry(entry.id)), " ", button("Discard", () => discard(entry.id))],
  }[status];
  const source = entry.source ? element("p", { className: "as-typed" }, entry.source) : null;
  const files = (entry.files ?? []).map((file) => element("span", { className: "attachment" }, thumbnail(file),
    element("span", { className: "attachment-name" }, `${file.name} (${bytesOf(file.blob.size)})`)));
  const text = element("div", { className: "message-text" }, source,
    files.length > 0 ? element("div", { className: "files" }, ...files) : null,
    element("p", { className: "outgoing-note", role: status === "refused" ? "alert" : null }, ...note));
  const { userId, nickname } = session;
  const name = shownNameOf(userId, nickname);
  const author = { userId: userId ?? 0, nickname, name, isFirst, isMine: true, seconds: entry.created_at };
  return row(author, text, { "data-outgoing": status });
}

function row({ userId, nickname, name, isFirst, isMine, seconds }, text, attributes, ...others) {
  const dateTime = new Date(seconds * 1000).toISOString();
  const time = element("time", { className: "message-time", dateTime, title: fullTime(seconds) }, clockTime(seconds));
  // Screen readers get the author of every message, also where it is not visible.
  const author = isFirst
    ? element("button", { type: "button", className: "message-author", "data-author-id": userId, "data-key": "author" },
      name)
    : element("span", { className: "message-author unseen" }, name);
  // A display name is not unique.
  const nick = isFirst && name !== nickname ? element("span", { className: "message-nick" }, `@${nickname}`) : null;
  const head = element("div", { className: `message-head${isFirst ? "" : " is-brief"}` }, author, nick, time);
  const className = `message${isFirst ? " is-first" : ""}${isMine ? " is-mine" : ""}`;
  return element("li", { className, ...attributes },
    element("div", { className: "message-side" }, isFirst ? avatar(userId, name) : ""), head, text, ...others);
}
