// The elements of a message: a stored one, and one in the outbox.

import { avatar, element, insertSanitizedHtml } from "./dom.js";
import { startEditing } from "./view-edit.js";
import { discard, retry } from "./outbox.js";
import { session } from "./session.js";
import { clockTime, fullTime } from "./time.js";

/** `editor` replaces the text while the message is edited. */
export function messageElement(message, { nickname, isFirst, isMine, editor }) {
  const text = element("div", { className: "message-text" });
  if (editor) text.append(editor);
  else insertSanitizedHtml(text, message.html);
  const properties = { className: "edit", type: "button", title: "Edit", "aria-label": "Edit this message" };
  const edit = isMine && !editor
    ? element("button", { ...properties, onclick: () => startEditing(message.id) }, pencil())
    : null;
  const author = { userId: message.user_id, nickname, isFirst, isMine, seconds: message.created_at };
  return row(author, text, edit, { "data-message-id": message.id });
}

/** Shows the source, because only the server renders Markdown. */
export function outgoingElement(entry, isFirst) {
  const button = (label, onclick) => element("button", { type: "button", className: "link-button", onclick }, label);
  const note = entry.status === "failed"
    ? element("p", { className: "outgoing-note", role: "alert" }, `Not sent. ${entry.problem} `,
      button("Try again", () => retry(entry.id)), " ", button("Discard", () => discard(entry.id)))
    : element("p", { className: "outgoing-note" },
      { waiting: "Waiting…", sending: "Sending…", sent: "Sent" }[entry.status]);
  const source = element("p", { className: "as-typed" }, entry.source);
  const text = element("div", { className: "message-text" }, source, note);
  const { userId, nickname } = session;
  const author = { userId: userId ?? 0, nickname, isFirst, isMine: true, seconds: entry.created_at };
  return row(author, text, null, { "data-outgoing": entry.status });
}

function row({ userId, nickname, isFirst, isMine, seconds }, text, button, attributes) {
  const dateTime = new Date(seconds * 1000).toISOString();
  const time = element("time", { className: "message-time", dateTime, title: fullTime(seconds) }, clockTime(seconds));
  // Screen readers get the author of every message, also where it is not visible.
  const author = element("span", { className: `message-author${isFirst ? "" : " unseen"}` }, nickname);
  const head = element("div", { className: `message-head${isFirst ? "" : " is-brief"}` }, author, time);
  const className = `message${isFirst ? " is-first" : ""}${isMine ? " is-mine" : ""}`;
  return element("li", { className, ...attributes },
    element("div", { className: "message-side" }, isFirst ? avatar(userId, nickname) : ""), head, text, button);
}

// SVG elements need their own namespace, which createElement does not use.
function pencil() {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(namespace, "use"));
  svg.firstChild.setAttribute("href", "#icon-edit");
  return svg;
}
