// Who is typing, in a channel or in a thread. The frames are not stored, and may be lost.

import { byId } from "./dom.js";
import { session } from "./session.js";
import { changed, draftKey, on, shownNameOf, state } from "./state.js";

const INTERVAL_MS = 3_000;
/** How long another user is shown as typing after a frame. */
const SHOWN_MS = 5_000;
const NAMES_MAX = 3;

let connection;
/** The draft key and the time of the last frame that was sent. */
let sent = { key: null, at: 0 };

export function openTyping(theConnection) {
  connection = theConnection;
  on(["typing", "users", "channel", "thread"], show);
}

/** Called after each change of a text. `place`: {channel_id, thread_id?}. */
export function sendTyping(place) {
  const key = draftKey(place);
  if (key === sent.key && Date.now() - sent.at < INTERVAL_MS) return;
  if (connection.send({ type: "typing", ...place })) sent = { key, at: Date.now() };
}

/** Called when a message is sent, after which others do not show the user any more. The next change is sent at once. */
export function endTyping() {
  sent = { key: null, at: 0 };
}

export function handleTyping({ user_id: userId, ...place }) {
  const typing = { key: draftKey(place) };
  state.typing.set(userId, typing);
  changed("typing");
  setTimeout(() => {
    // A later frame has set a later entry.
    if (state.typing.get(userId) === typing && state.typing.delete(userId)) changed("typing");
  }, SHOWN_MS);
}

function show() {
  const { channelId, thread } = state;
  byId("typing").textContent = textOf(channelId);
  byId("thread-typing").textContent = thread ? textOf(draftKey({ channel_id: channelId, thread_id: thread.id })) : "";
}

function textOf(key) {
  const names = [...state.typing]
    .filter(([id, typing]) => id !== session.userId && typing.key === key)
    .map(([id]) => state.users.has(id) && shownNameOf(id))
    .filter(Boolean);
  if (names.length > NAMES_MAX) return "Several people are typing";
  if (names.length === 0) return "";
  return `${new Intl.ListFormat("en").format(names)} ${names.length === 1 ? "is" : "are"} typing`;
}
