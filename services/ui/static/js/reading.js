// Read and unread: the count in the window's title, notifications, and the marker up to where somebody has read.

import * as api from "./api.js";
import { session } from "./session.js";
import { changed, CHANNEL, messagesInOrder, nicknameOf, on, state } from "./state.js";
import { isReading } from "./view-messages.js";
import { wantsNotifications } from "./view-settings.js";

const MARKER_WAIT_MS = 1_500;
const NOTIFICATION_LENGTH_MAX = 140;

let unreadCount = 0;
let markedId = 0;
/** Where the reader had got to when this window was opened, until it was used to draw the line. */
let readBefore = null;
let timer = null;

export function openReading() {
  on(["messages"], () => {
    drawLine();
    if (isReading()) noteRead();
  });
  for (const event of ["focus", "visibilitychange"]) addEventListener(event, noteSeen);
}

/** A message of somebody else has come in while this window was open. */
export function noteArrival(message) {
  if (isReading()) return;
  unreadCount += 1;
  showTitle();
  if (document.hidden && wantsNotifications()) {
    // One notification that is replaced, not a pile.
    const note = new Notification(nicknameOf(message), { body: message.source.slice(0, NOTIFICATION_LENGTH_MAX), tag: "flack", icon: "/static/favicon.svg" });
    note.onclick = () => window.focus();
  }
}

/** Where the reader had got to last time, on whatever device. */
export async function loadReadMarker() {
  try {
    const markers = await api.listReadMarkers(session.token);
    readBefore = markers.find(({ channel }) => channel === CHANNEL)?.message_id ?? null;
    markedId = readBefore ?? 0;
    drawLine();
  } catch {
    // No line, then.
  }
}

// Once, when both the marker and the messages are there: what comes in later is read as it comes.
function drawLine() {
  if (readBefore === null || !state.loaded) return;
  const first = messagesInOrder().find(({ id, user_id: author }) => id > readBefore && author !== session.userId);
  readBefore = null;
  if (first) state.unreadFrom = first.id;
  changed("messages");
}

export function forgetReading() {
  unreadCount = 0;
  markedId = 0;
  readBefore = null;
  state.unreadFrom = null;
  showTitle();
}

function noteSeen() {
  if (document.hidden) return;
  unreadCount = 0;
  showTitle();
  noteRead();
}

// A moment later and once for many: reading is not worth a request for each message.
function noteRead() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const newestId = messagesInOrder().at(-1)?.id ?? 0;
    if (!session.token || newestId <= markedId) return;
    const before = markedId;
    markedId = newestId;
    try {
      await api.setReadMarker(session.token, CHANNEL, newestId);
    } catch {
      // The next message tries again.
      markedId = before;
    }
  }, MARKER_WAIT_MS);
}

function showTitle() {
  document.title = unreadCount > 0 ? `(${unreadCount}) Flack` : "Flack";
}
