// How one message looks: one that is there, and one that is on its way.

import { avatar, element, putCleanedHtml } from "./dom.js";
import { startEditing } from "./view-edit.js";
import { discard, retry } from "./outbox.js";
import { session } from "./session.js";
import { clockTime, fullTime } from "./time.js";

/** `editor`: shown in place of the text while the message is edited. */
export function messageElement(message, { nickname, isFirst, isMine, editor }) {
  const text = element("div", { className: "message-text" });
  if (editor) text.append(editor);
  else putCleanedHtml(text, message.html);
  const edit = isMine && !editor
    ? element("button", { className: "edit", type: "button", title: "Edit", "aria-label": "Edit this message", onclick: () => startEditing(message.id) }, pencil())
    : null;
  return frame({ userId: message.user_id, nickname, isFirst, isMine, seconds: message.created_at }, text, edit, { "data-message-id": message.id });
}

/** Not rendered yet: the source as it was typed. */
export function outgoingElement(entry, isFirst) {
  const text = element("div", { className: "message-text" }, element("p", { className: "as-typed" }, entry.source));
  const note = entry.status === "failed"
    ? element("p", { className: "outgoing-note", role: "alert" },
      `Not sent. ${entry.problem} `,
      element("button", { type: "button", className: "link-button", onclick: () => retry(entry.id) }, "Try again"), " ",
      element("button", { type: "button", className: "link-button", onclick: () => discard(entry.id) }, "Discard"))
    : element("p", { className: "outgoing-note" }, { waiting: "Waiting…", sending: "Sending…", sent: "Sent" }[entry.status]);
  text.append(note);
  return frame({ userId: session.userId ?? 0, nickname: session.nickname, isFirst, isMine: true, seconds: entry.created_at },
    text, null, { "data-outgoing": entry.status });
}

function frame({ userId, nickname, isFirst, isMine, seconds }, text, button, marks) {
  const time = element("time", { className: "message-time", dateTime: new Date(seconds * 1000).toISOString(), title: fullTime(seconds) }, clockTime(seconds));
  const head = isFirst
    ? element("div", { className: "message-head" }, element("span", { className: "message-author" }, nickname), time)
    // The name is not shown again, but somebody who listens must still be told who speaks.
    : element("div", { className: "message-head is-brief" }, element("span", { className: "message-author unseen" }, nickname), time);
  return element("li", { className: `message${isFirst ? " is-first" : ""}${isMine ? " is-mine" : ""}`, ...marks },
    element("div", { className: "message-side" }, isFirst ? avatar(userId, nickname) : ""), head, text, button);
}

// createElement makes HTML elements; drawings have a namespace of their own.
function pencil() {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(namespace, "use"));
  svg.firstChild.setAttribute("href", "#icon-edit");
  return svg;
}
