// The composer. Enter sends, Shift+Enter inserts a line break. The draft is kept until it is sent: across a page reload
// and across an expired session.

import { titleOf } from "./channel-names.js";
import { byId } from "./dom.js";
import { checkLength } from "./limit.js";
import { startEditingLast } from "./view-edit.js";
import { post } from "./outbox.js";
import { session } from "./session.js";
import { on, openChannel, state } from "./state.js";
import { goToEnd } from "./view-messages.js";

const TYPING_INTERVAL_MS = 3_000;
/** How long another user is shown as typing after a typing frame. */
export const TYPING_SHOWN_MS = 5_000;
const TYPING_NAMES_MAX = 3;

const form = byId("composer");
const draft = byId("draft");
const note = byId("draft-note");

/** The channel of the text in the field. */
let channelId = null;
let typingSentAt = 0;

export function openComposerView(connection) {
  draft.addEventListener("input", () => {
    checkLength(draft, note);
    session.setDraft(channelId, draft.value);
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
    draft.focus();
    if (!source || channelId === null) return;
    if (!checkLength(draft, note)) {
      note.textContent = `Not sent: ${note.textContent}`;
      return;
    }
    clearDraft();
    post(channelId, source);
    goToEnd();
  });
  on(["channel", "channels", "users"], show);
  on(["draft"], () => {
    loadDraft();
    draft.focus();
  });
  on(["typing", "users", "channel"], showTyping);
}

export function focusComposer() {
  draft.focus();
}

function show() {
  if (channelId !== state.channelId) loadDraft();
  const channel = openChannel();
  const title = channel ? titleOf(channel) : "";
  byId("draft-label").textContent = `Message to ${title}. Enter sends, Shift and Enter inserts a line break.`;
  draft.placeholder = `Message ${title}`;
}

function loadDraft() {
  channelId = state.channelId;
  draft.value = channelId === null ? "" : session.draftOf(channelId);
  typingSentAt = 0;
  checkLength(draft, note);
}

export function clearDraft() {
  draft.value = "";
  session.setDraft(channelId, "");
  typingSentAt = 0;
  checkLength(draft, note);
}

function sendTyping(connection) {
  if (draft.value === "" || Date.now() - typingSentAt < TYPING_INTERVAL_MS) return;
  if (connection.send({ type: "typing", channel_id: channelId })) typingSentAt = Date.now();
}

function showTyping() {
  const names = [...state.typing]
    .filter(([id, typing]) => id !== session.userId && typing.channelId === state.channelId)
    .map(([id]) => state.users.get(id)?.nickname)
    .filter(Boolean);
  let text = "";
  if (names.length > TYPING_NAMES_MAX) text = "Several people are typing";
  else if (names.length > 0) {
    text = `${new Intl.ListFormat("en").format(names)} ${names.length === 1 ? "is" : "are"} typing`;
  }
  byId("typing").textContent = text;
}
