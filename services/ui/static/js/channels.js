// The channels of the user: which one is open, by the address of the page (`#/channels/<name>`, `#/direct/<id>`, and
// with `/<id>` the thread of a message), and the changes that the socket delivers.

import * as api from "./api.js";
import { addressOf, nameOf, threadAddress } from "./channel-names.js";
import { isLoading, load } from "./lists.js";
import { loadNewest, loadPosted, reloadMessages } from "./pages.js";
import { session } from "./session.js";
import { applyChannel, applyChannelModel, applyChannels, applyMember, applyMembers, setMembership } from "./state.js";
import { mentionsUser, openChannel, setOpenChannel, setOpenThread, state } from "./state.js";
import { loadThread } from "./threads.js";
import { showNotice } from "./view-settings.js";

const ADDRESS = /^(#\/(?:channels|direct)\/[^/]+)(?:\/(\d+))?$/;
/** The server counts unread messages up to this number, which means "or more". */
const UNREAD_MAX = 100;
const REFRESH_DELAY_MS = 300;
const POSTED_INTERVAL_MS = 5_000;

/** Whether the socket has delivered everything since some moment. What was read before it would have a gap after it. */
let isReceiving = false;
/** The channels that are read again soon, and those that are being read. */
const waiting = new Set();
const reading = new Set();

export function openChannels() {
  addEventListener("hashchange", showAddressed);
  setInterval(() => {
    const channel = openChannel();
    const isGuest = channel && !channel.member && channel.id !== api.GENERAL_ID;
    if (isGuest && isReceiving && !document.hidden) loadPosted();
  }, POSTED_INTERVAL_MS);
}

/**
 * Called after a welcome frame without a resume: loads the list, and what is shown again. The socket delivers
 * everything from then on, so there is no gap. `readingId` returns the message that is being read, or null at the end.
 */
export function loadChannels(readingId) {
  isReceiving = true;
  // Without a token there is no list, and the dialog to sign in covers the chat.
  if (!session.token) return;
  load("channels", () => api.listChannels(session.token), (channels) => {
    applyChannels(channels);
    showAddressed();
  });
  if (state.channelId === null) return;
  reloadMessages(readingId);
  loadMembers();
  if (state.thread) loadThread(goToThread);
}

/** Called at the sign-out. */
export function closeChannels() {
  isReceiving = false;
  history.replaceState(null, "", location.pathname);
}

/** Opens a channel, or a thread in it, as a link does. */
export function goTo(channel, threadId) {
  location.hash = `${addressOf(channel)}${threadId ? `/${threadId}` : ""}`;
}

function goToGeneral() {
  location.hash = "";
}

/** Closes the thread; the channel stays open. */
export const closeThread = () => goTo(openChannel());

/** Opens the channel of the address; without one it is `general`. */
export function showAddressed() {
  if (!session.token) return;
  const [, found = location.hash, threadId] = location.hash.match(ADDRESS) ?? [];
  const address = found || addressOf(state.channels.get(api.GENERAL_ID));
  const channel = [...state.channels.values()].find((candidate) => addressOf(candidate) === address);
  if (channel) {
    show(channel);
    return showThread(threadId ? Number(threadId) : null);
  }
  if (!state.loaded.channels) return;
  showNotice("There is no such channel, or you are not its member.");
  history.replaceState(null, "", location.pathname);
  showAddressed();
}

function show({ id }) {
  if (id === state.channelId) return;
  setOpenChannel(id);
  if (!isReceiving) return;
  loadNewest();
  loadMembers();
}

function showThread(id) {
  if (id === (state.thread?.id ?? null)) return;
  setOpenThread(id);
  if (isReceiving && id !== null) loadThread(goToThread);
}

function goToThread(id) {
  if (id !== null) return location.replace(threadAddress({ id }));
  showNotice("There is no such message, or you cannot see it.");
  closeThread();
}

/** Of the open channel. Without them, their number is not shown. */
export async function loadMembers() {
  const { channelId: id } = state;
  // Of `general` everybody is a member.
  if (id === null || id === api.GENERAL_ID) return;
  try {
    const members = await api.listMembers(session.token, id);
    if (id === state.channelId) applyMembers(members);
  } catch {
    // The next opening tries again.
  }
}

export function handleChannel(model) {
  if (!applyChannelModel(model)) refreshLater(model.id);
}

/** Applies a membership of any user. */
export function handleMember(model) {
  applyMember(model);
  if (model.user_id !== session.userId) return;
  const { channel_id: id, version } = model;
  const channel = state.channels.get(id);
  const member = channel?.member;
  if (member?.version >= version) return;
  if (model.left_at) {
    setMembership(id, null, version);
    if (id === state.channelId && !state.channels.has(id)) goToGeneral();
  } else if (!member || member.last_read_message_id < model.last_read_message_id) {
    // Its number of unread messages is not in the event.
    refreshLater(id);
  } else setMembership(id, { version });
}

/** Reads a channel again, once for all events of a moment. */
export function refreshLater(id) {
  if (!session.token || waiting.has(id)) return;
  waiting.add(id);
  setTimeout(async () => {
    waiting.delete(id);
    reading.add(id);
    try {
      await refreshNow(id);
    } catch {
      // The next list has it.
    } finally {
      reading.delete(id);
    }
  }, REFRESH_DELAY_MS);
}

async function refreshNow(id) {
  const wasMember = Boolean(state.channels.get(id)?.member);
  applyChannel(await api.getChannel(session.token, id));
  // Only members receive new messages: those since the list was loaded are missing.
  if (id !== state.channelId || wasMember || !openChannel().member) return;
  loadNewest();
  loadMembers();
}

/** Counts a message of another user that is not read at once. Of replies, only mentions are counted. */
export function countUnread(message) {
  const { channel_id: id, thread_id: threadId } = message;
  const member = state.channels.get(id)?.member;
  if (member) {
    const { unread, mentions = 0 } = member;
    const plus = (count, isMore) => Math.min(count + isMore, UNREAD_MAX);
    setMembership(id, {
      unread: plus(unread, !threadId), mentions: plus(mentions, mentionsUser(message, session.userId)),
    });
  }
  // Whether what is being read counts it, is not known.
  if (!member || isLoading("channels") || reading.has(id)) refreshLater(id);
}

export const shownCount = (unread) => (unread >= UNREAD_MAX ? `${UNREAD_MAX - 1}+` : String(unread));

/** A deleted message is not unread. */
export function handleDeleted({ id: messageId, channel_id: id }) {
  const member = state.channels.get(id)?.member;
  const isCounted = member?.unread > 0 || member?.mentions > 0;
  if (isCounted && messageId > member.last_read_message_id) refreshLater(id);
}

export async function join(id) {
  await api.addMember(session.token, id, session.userId);
  await refreshNow(id);
}

export async function leave(id) {
  await api.leaveChannel(session.token, id, session.userId);
  // The event follows, with its version.
  const { member } = state.channels.get(id) ?? {};
  setMembership(id, null, (member?.version ?? 0) + 1);
  if (id === state.channelId) goToGeneral();
}

/** Creates a channel, or finds the direct channel of these people, and opens it. */
export async function create(channel) {
  const created = await api.createChannel(session.token, channel);
  applyChannel(created);
  goTo(created);
}

/** Opens the direct channel with one other person. */
export const writeTo = (userId) => create({ kind: "direct", user_ids: [userId] });

/** The channels of the user in the order of their names: public and private ones, or direct ones. */
export function channelsOf(isDirect) {
  const mine = [...state.channels.values()].filter((channel) =>
    (channel.member || channel.id === api.GENERAL_ID) && (channel.kind === "direct") === isDirect
    && (!channel.archived_at || channel.id === state.channelId));
  return mine.sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}
