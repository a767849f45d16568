// The composer. Enter sends, Shift+Enter inserts a line break. The draft is kept until it is sent: across a page reload
// and across an expired session.

import { byId } from "./dom.js";
import { startEditingLast } from "./view-edit.js";
import { post } from "./outbox.js";
import { session } from "./session.js";
import { CHANNEL, on, state } from "./state.js";
import { scrollToEnd } from "./view-messages.js";

const LENGTH_MAX = 8192;
/** From this length on, the number of characters left is shown. */
const LENGTH_SHOWN_FROM = 7500;
const TYPING_INTERVAL_MS = 3_000;
/** How long another user is shown as typing after a typing frame. */
export const TYPING_SHOWN_MS = 5_000;
const TYPING_NAMES_MAX = 3;

const form = byId("composer");
const draft = byId("draft");

let typingSentAt = 0;

export function openComposerView(connection) {
  draft.value = session.draft;
  draft.addEventListener("input", () => {
    session.draft = draft.value;
    showCharactersLeft();
    sendTyping(connection);
  });
  draft.addEventListener("keydown", (event) => {
    // Input methods (Japanese, for example) also end a composed word with Enter.
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
    post(source);
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
  typingSentAt = 0;
  showCharactersLeft();
}

function showCharactersLeft() {
  const { length } = draft.value;
  byId("draft-room").textContent = length < LENGTH_SHOWN_FROM ? "" : `${LENGTH_MAX - length} characters left`;
}

function sendTyping(connection) {
  if (draft.value === "" || Date.now() - typingSentAt < TYPING_INTERVAL_MS) return;
  if (connection.send({ type: "typing", channel: CHANNEL })) typingSentAt = Date.now();
}

function showTyping() {
  const names = [...state.typing.keys()]
    .filter((id) => id !== session.userId)
    .map((id) => state.users.get(id)?.nickname)
    .filter(Boolean);
  let text = "";
  if (names.length > TYPING_NAMES_MAX) text = "Several people are typing";
  else if (names.length > 0) {
    text = `${new Intl.ListFormat("en").format(names)} ${names.length === 1 ? "is" : "are"} typing`;
  }
  byId("typing").textContent = text;
}
