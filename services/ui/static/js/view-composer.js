// Where one writes. Enter sends, Shift+Enter makes a new line, and the draft is kept until it is sent: through
// a reload, and through a session that ends in the middle of a word.

import { byId } from "./dom.js";
import { startEditingLast } from "./view-edit.js";
import { say } from "./outbox.js";
import { session } from "./session.js";
import { CHANNEL, on, state } from "./state.js";
import { scrollToEnd } from "./view-messages.js";

const LENGTH_MAX = 8192;
const LENGTH_SHOWN_FROM = 7500;
// "Ana is typing" is said at most so often, and believed for so long.
const TYPING_EVERY_MS = 3_000;
export const TYPING_SHOWN_MS = 5_000;
// More names than this make a crowd.
const TYPING_NAMES_MAX = 3;

const form = byId("composer");
const draft = byId("draft");

let typingSaidAt = 0;

export function openComposerView(connection) {
  draft.value = session.draft;
  draft.addEventListener("input", () => {
    session.draft = draft.value;
    showRoom();
    sayTyping(connection);
  });
  draft.addEventListener("keydown", (event) => {
    // A word that is being composed (Japanese, say) is ended with Enter as well.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "ArrowUp" && draft.value === "" && startEditingLast()) {
      event.preventDefault();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const source = draft.value.trim();
    if (!source) return;
    clearDraft();
    say(source);
    scrollToEnd();
    draft.focus();
  });
  on(["typing", "users"], showTyping);
}

export function focusComposer() {
  draft.focus();
}

export function clearDraft() {
  draft.value = "";
  session.draft = "";
  typingSaidAt = 0;
  showRoom();
}

function showRoom() {
  const left = LENGTH_MAX - draft.value.length;
  byId("draft-room").textContent = draft.value.length < LENGTH_SHOWN_FROM ? "" : `${left} characters left`;
}

function sayTyping(connection) {
  if (draft.value === "" || Date.now() - typingSaidAt < TYPING_EVERY_MS) return;
  if (connection.send({ type: "typing", channel: CHANNEL })) typingSaidAt = Date.now();
}

function showTyping() {
  const names = [...state.typing.keys()]
    .filter((id) => id !== session.userId)
    .map((id) => state.users.get(id)?.nickname)
    .filter(Boolean);
  let text = "";
  if (names.length > TYPING_NAMES_MAX) text = "Several people are typing";
  else if (names.length > 0) text = `${new Intl.ListFormat("en").format(names)} ${names.length === 1 ? "is" : "are"} typing`;
  byId("typing").textContent = text;
}
