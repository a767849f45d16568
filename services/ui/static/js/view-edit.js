// Editing one's own message, in place. Enter saves, Esc leaves.

import * as api from "./api.js";
import { byId, element } from "./dom.js";
import { session } from "./session.js";
import { acceptModel, changed, messagesInOrder, state } from "./state.js";

let editing = null;

export const isEditing = (id) => editing === id;

export function startEditing(id) {
  editing = id;
  changed("editing");
}

/** For the arrow key in an empty composer. Answers whether there was one. */
export function startEditingLast() {
  const mine = messagesInOrder().findLast(({ user_id: author }) => author === session.userId);
  if (mine) startEditing(mine.id);
  return Boolean(mine);
}

/** The editor, as it takes the place of the message's text. */
export function editorFor(message) {
  const input = element("textarea", { className: "draft edit-source", value: message.source, maxLength: 8192, rows: 1, "aria-label": "Edit your message" });
  const problem = element("p", { className: "outgoing-note is-problem", role: "alert", hidden: true });
  const save = element("button", { type: "submit", className: "small primary" }, "Save");
  const form = element("form", { className: "edit-form" }, input, problem,
    element("div", { className: "edit-buttons" }, save, element("button", { type: "button", className: "small", onclick: leave }, "Cancel"),
      element("span", { className: "edit-hint" }, "Enter saves, Esc leaves")));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const source = input.value.trim();
    if (!source || source === state.messages.get(message.id).source) return leave();
    save.disabled = true;
    try {
      await api.updateMessage(session.token, message.id, source);
      // The event brings it too, but not while the socket is away.
      acceptModel("Message", await api.getMessage(message.id));
      leave();
    } catch (failure) {
      problem.textContent = `Not saved. ${failure.message}`;
      problem.hidden = false;
      save.disabled = false;
    }
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  // It is not in the page yet; focus needs it to be.
  setTimeout(() => {
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
    form.scrollIntoView({ block: "nearest" });
  });
  return form;
}

function leave() {
  editing = null;
  changed("editing");
  byId("draft").focus();
}
