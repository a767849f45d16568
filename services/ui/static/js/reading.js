// Read and unread messages: the line above the first unread one, the read position, the title, and notifications.

import * as api from "./api.js";
import { titleOf } from "./channel-names.js";
import { countUnread, goTo, refreshLater, shownCount } from "./channels.js";
import { fileNames } from "./files.js";
import { session } from "./session.js";
import { changed, mentionsUser, messagesInOrder, newestIdOf, on, openChannel, shownNameOf } from "./state.js";
import { setMembership, state } from "./state.js";
import { isReading } from "./view-messages.js";
import { wantsNotifications } from "./view-settings.js";

// Several messages cause one request.
const POSITION_INTERVAL_MS = 1_500;
const NOTIFICATION_LENGTH_MAX = 140;

/** The channel whose unread line is known, or waits for its messages. */
let channelId = null;
/** The read position at the time when the channel was opened; null after the unread line has been set. */
let readBefore = null;
/** The newest message at the time when the messages were loaded. */
let openedAtId = null;
/** Channel id to the newest message that was seen and is not sent yet. */
const seen = new Map();
/** The channels whose mentions are counted again after their position is stored. */
const recounted = new Set();
let timer = null;

export function openReading() {
  on(["channel", "channels", "messages", "thread", "users", "reading"], update);
  document.addEventListener("visibilitychange", update);
  addEventListener("pagehide", sendPositions);
}

/** Receives another user's message that has just arrived. Shows a notification when the window is hidden. */
export function handleUnread(message) {
  const { thread_id: threadId } = message;
  // Replies are read in their thread, and only mentions are announced.
  if (threadId ? !mentionsUser(message, session.userId) : message.channel_id === state.channelId && isReading()) return;
  countUnread(message);
  const channel = state.channels.get(message.channel_id);
  if (channel && document.hidden && wantsNotifications()) {
    const body = (message.source || fileNames(message)).slice(0, NOTIFICATION_LENGTH_MAX);
    const place = channel.kind === "direct" ? "" : ` in ${titleOf(channel)}`;
    // With a tag, a new notification replaces the previous one.
    const options = { body, tag: "flack", icon: "/static/favicon.svg" };
    new Notification(`${shownNameOf(message.user_id)}${place}`, options).onclick = () => {
      window.focus();
      goTo(channel, threadId);
    };
  }
}

function update() {
  const member = openChannel()?.member;
  if (channelId !== state.channelId) {
    // Before the list of channels is loaded, the read position is unknown.
    channelId = member ? state.channelId : null;
    // 0: the user has read nothing yet, and everything is new.
    readBefore = member?.last_read_message_id || null;
    openedAtId = null;
  }
  setUnreadLine();
  if (member && channelId !== null) setSeen(member);
  showTitle();
}

// Done once, when the messages around the read position are loaded: the first unread message may be on an earlier page.
// Messages that arrive later are read as they arrive.
function setUnreadLine() {
  if (readBefore === null || !state.loaded.messages) return;
  openedAtId ??= newestIdOf(channelId);
  const messages = messagesInOrder();
  if (state.range.earlier !== null && messages[0].id > readBefore) return;
  const isUnread = ({ id, user_id: author }) => id > readBefore && id <= openedAtId && author !== session.userId;
  const first = messages.find(isUnread);
  readBefore = null;
  if (first) state.unreadFrom = first.id;
  changed("messages");
}

function setSeen(member) {
  const newestId = newestSeenId(member);
  if (newestId <= member.last_read_message_id) return;
  seen.set(channelId, newestId);
  setMembership(channelId, { unread: 0, mentions: 0, last_read_message_id: newestId });
  // Later replies that were not seen are counted, too.
  if (member.mentions > 0) recounted.add(channelId);
  timer ??= setTimeout(sendPositions, POSITION_INTERVAL_MS);
}

// A reply is a read position only if it has a mention, and no unread message of the channel is before it.
function newestSeenId({ unread, mentions }) {
  const isSeen = state.loaded.messages && isReading();
  const inChannel = isSeen ? messagesInOrder().at(-1)?.id ?? 0 : 0;
  if (!(mentions > 0) || !state.loaded.thread || document.hidden || (unread > 0 && !isSeen)) return inChannel;
  return Math.max(inChannel, ...state.thread.replies.keys());
}

function sendPositions() {
  clearTimeout(timer);
  timer = null;
  for (const [id, messageId] of seen) {
    // A lost position is not essential: the next message sends a later one.
    if (!session.token) continue;
    const recount = () => recounted.delete(id) && refreshLater(id);
    api.setReadPosition(session.token, id, messageId).then(recount, () => {});
  }
  seen.clear();
}

function showTitle() {
  const channel = openChannel();
  const members = [...state.channels.values()].map(({ member }) => member);
  const sumOf = (name) => members.reduce((total, member) => total + (member?.[name] ?? 0), 0);
  const [unread, mentions] = [sumOf("unread"), sumOf("mentions")];
  const counts = [unread > 0 && shownCount(unread), mentions > 0 && `@${shownCount(mentions)}`].filter(Boolean);
  const count = counts.length > 0 ? `(${counts.join(", ")}) ` : "";
  document.title = channel && session.token ? `${count}${titleOf(channel)} – Flack` : "Flack";
}
