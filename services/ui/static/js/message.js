// The elements of a message: a stored one, and one in the outbox.

import { startDeleting, undoDeleting } from "./deleting.js";
import { avatar, element, icon, insertSanitizedHtml } from "./dom.js";
import { startEditing } from "./view-edit.js";
import { discard, edit, retry } from "./outbox.js";
import { session } from "./session.js";
import { clockTime, fullTime } from "./time.js";

/** `editor` replaces the text while the message is edited. `deleting`: as `deletionOf` returns it. */
export function messageElement(message, { nickname, isFirst, isMine, deleting, editor }) {
  const { id } = message;
  const text = element("div", { className: "message-text" });
  if (editor) text.append(editor);
  else if (deleting) text.append(deletionNote(id, deleting));
  else if (message.deleted_at) text.append(element("p", { className: "tombstone" }, "This message was deleted"));
  else {
    insertSanitizedHtml(text, message.html);
    // At the end of the last line of text.
    if (message.edited_at) lastParagraph(text).append(" ", editedMark(message.edited_at));
  }
  const canChange = isMine && !editor && !deleting && !message.deleted_at;
  const actions = canChange
    ? element("div", { className: "actions" },
      action("edit", "Edit", () => startEditing(id)), action("delete", "Delete", () => startDeleting(id)))
    : null;
  const author = { userId: message.user_id, nickname, isFirst, isMine, seconds: message.created_at };
  return row(author, text, actions, { "data-message-id": id });
}

const action = (name, label, onclick) => element("button",
  { className: name, type: "button", title: label, "aria-label": `${label} this message`, onclick }, icon(name));

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
  return row(author, text, null, { "data-outgoing": status });
}

function row({ userId, nickname, isFirst, isMine, seconds }, text, actions, attributes) {
  const dateTime = new Date(seconds * 1000).toISOString();
  const time = element("time", { className: "message-time", dateTime, title: fullTime(seconds) }, clockTime(seconds));
  // Screen readers get the author of every message, also where it is not visible.
  const author = element("span", { className: `message-author${isFirst ? "" : " unseen"}` }, nickname);
  const head = element("div", { className: `message-head${isFirst ? "" : " is-brief"}` }, author, time);
  const className = `message${isFirst ? " is-first" : ""}${isMine ? " is-mine" : ""}`;
  return element("li", { className, ...attributes },
    element("div", { className: "message-side" }, isFirst ? avatar(userId, nickname) : ""), head, text, actions);
}
