// Editing an own message in place. Enter saves, Esc cancels.

import * as api from "./api.js";
import { deletionOf, startDeleting } from "./deleting.js";
import { byId, element } from "./dom.js";
import { checkLength } from "./limit.js";
import { session } from "./session.js";
import { applyMessage, changed, messageOf, messagesInOrder, repliesInOrder } from "./state.js";

/** {id, place}. A message may be shown in the channel and in its thread. */
let editing = null;

export const isEditing = (id, place) => editing?.id === id && editing.place === place;

export function startEditing(id, place) {
  editing = { id, place };
  changed("editing");
}

/** Edits the last own message of the channel or of the thread. Returns whether there is one. */
export function startEditingLast(place) {
  const isMine = ({ id, user_id: author, deleted_at: deletedAt }) =>
    author === session.userId && !deletedAt && !deletionOf(id);
  const mine = (place === "thread" ? repliesInOrder() : messagesInOrder()).findLast(isMine);
  if (mine) startEditing(mine.id, place);
  return Boolean(mine);
}

/** Creates the editor that replaces the text of the message. */
export function editorFor(message, place) {
  const close = () => stopEditing(place);
  const properties = { className: "draft edit-source", rows: 1, "aria-label": "Edit your message" };
  const input = element("textarea", { ...properties, value: message.source });
  const problem = element("p", { className: "outgoing-note is-problem", role: "alert", hidden: true });
  const length = element("span", { className: "edit-hint", role: "status" });
  const save = element("button", { type: "submit", className: "small primary" }, "Save");
  const form = element("form", { className: "edit-form" }, input, problem,
    element("div", { className: "edit-buttons" }, save,
      element("button", { type: "button", className: "small", onclick: close }, "Cancel"),
      element("button", { type: "button", className: "small", onclick: remove }, "Delete"),
      element("span", { className: "edit-hint" }, "Enter saves, Esc cancels"), length));

  function remove() {
    close();
    startDeleting(message.id);
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const source = input.value.trim();
    if (!source || source === messageOf(message.id)?.source) return close();
    if (!checkLength(input, length)) return;
    save.disabled = true;
    try {
      // The event delivers it too, but not while the socket is closed.
      applyMessage(await api.updateMessage(session.token, message.id, source));
      close();
    } catch (failure) {
      problem.textContent = `Not saved. ${failure.message}`;
      problem.hidden = false;
      save.disabled = false;
    }
  });
  input.addEventListener("input", () => {
    save.disabled = !checkLength(input, length);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  // Focus needs an element that is in the page already.
  setTimeout(() => {
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
    form.scrollIntoView({ block: "nearest" });
  });
  return form;
}

function stopEditing(place) {
  editing = null;
  changed("editing");
  byId(place === "thread" ? "thread-draft" : "draft").focus();
}
