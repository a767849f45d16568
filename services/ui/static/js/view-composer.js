// The composer of the open channel, and who is typing there.

import { titleOf } from "./channel-names.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { post } from "./outbox.js";
import { session } from "./session.js";
import { on, openChannel, state } from "./state.js";
import { goToEnd } from "./view-messages.js";

const TYPING_INTERVAL_MS = 3_000;
/** How long another user is shown as typing after a typing frame. */
export const TYPING_SHOWN_MS = 5_000;
const TYPING_NAMES_MAX = 3;

let composer;
/** The channel of the text in the field. */
let channelId = null;
let typingSentAt = 0;

export function openComposerView(connection) {
  composer = new Composer(byId("composer"), byId("draft-note"), {
    place: "channel",
    typed: () => sendTyping(connection),
    send: (source) => {
      typingSentAt = 0;
      post(channelId, source);
      goToEnd();
    },
  });
  on(["channel", "channels", "users"], show);
  on(["typing", "users", "channel"], showTyping);
}

export const focusComposer = () => composer.focus();

export const clearDraft = () => composer.clear();

function show() {
  if (channelId !== state.channelId) {
    channelId = state.channelId;
    composer.show(channelId);
    typingSentAt = 0;
  }
  const channel = openChannel();
  const title = channel ? titleOf(channel) : "";
  byId("draft-label").textContent = `Message to ${title}. Enter sends, Shift and Enter inserts a line break.`;
  byId("draft").placeholder = `Message ${title}`;
}

function sendTyping(connection) {
  if (composer.isEmpty || Date.now() - typingSentAt < TYPING_INTERVAL_MS) return;
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
