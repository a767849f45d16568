// Read and unread messages: the count in the window's title, notifications, and the read marker.

import * as api from "./api.js";
import { session } from "./session.js";
import { changed, CHANNEL, messagesInOrder, nicknameOf, on, state } from "./state.js";
import { isReading } from "./view-messages.js";
import { wantsNotifications } from "./view-settings.js";

const MARKER_DELAY_MS = 1_500;
const NOTIFICATION_LENGTH_MAX = 140;

let unreadCount = 0;
/** The last message that the stored read marker includes. */
let markedId = 0;
/** The read marker at the time when this window was opened; null after the unread line has been set. */
let readBefore = null;
let timer = null;

export function openReading() {
  on(["messages"], () => {
    setUnreadLine();
    if (isReading()) storeMarkerLater();
  });
  for (const event of ["focus", "visibilitychange"]) addEventListener(event, resetCount);
}

/** Counts another user's message that has just arrived, and shows a notification when the window is hidden. */
export function countUnread(message) {
  if (isReading()) return;
  unreadCount += 1;
  showTitle();
  if (document.hidden && wantsNotifications()) {
    const body = message.source.slice(0, NOTIFICATION_LENGTH_MAX);
    // With a tag, a new notification replaces the previous one.
    const options = { body, tag: "flack", icon: "/static/favicon.svg" };
    new Notification(nicknameOf(message), options).onclick = () => window.focus();
  }
}

/** Loads the user's read marker, which all devices share. */
export async function loadReadMarker() {
  try {
    const markers = await api.listReadMarkers(session.token);
    readBefore = markers.find(({ channel }) => channel === CHANNEL)?.message_id ?? null;
    markedId = readBefore ?? 0;
    setUnreadLine();
  } catch {
    // Without a marker there is no unread line.
  }
}

// Done once, when both the marker and the messages are loaded. Messages that arrive later are read as they arrive.
function setUnreadLine() {
  if (readBefore === null || !state.loaded) return;
  const first = messagesInOrder().find(({ id, user_id: author }) => id > readBefore && author !== session.userId);
  readBefore = null;
  if (first) state.unreadFrom = first.id;
  changed("messages");
}

export function resetReading() {
  unreadCount = 0;
  markedId = 0;
  readBefore = null;
  state.unreadFrom = null;
  showTitle();
}

function resetCount() {
  if (document.hidden) return;
  unreadCount = 0;
  showTitle();
  storeMarkerLater();
}

// Delayed, so that several messages cause one request.
function storeMarkerLater() {
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
  }, MARKER_DELAY_MS);
}

function showTitle() {
  document.title = unreadCount > 0 ? `(${unreadCount}) Flack` : "Flack";
}
