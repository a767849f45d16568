// The state of this window. Views read it and subscribe to its topics. Only this file and the outbox change it.

import { GENERAL_ID } from "./api.js";

// Until the list of channels is loaded. It can be read and posted to before.
const GENERAL = { id: GENERAL_ID, name: "general", kind: "public", topic: "", version: -1 };

export const state = {
  users: new Map(),
  /** User id to the profile: {display_name, about, hue?, version}. Absent: it is empty. */
  profiles: new Map(),
  /**
   * The public channels, and those of the user. `member`: of the user, absent without a membership: {unread,
   * mentions, last_read_message_id, version}.
   */
  channels: new Map([[GENERAL_ID, GENERAL]]),
  /** The channel that is shown; null until it is found by the address of the page. */
  channelId: null,
  /** The members of the open channel by their id; null: not loaded, or everybody. */
  members: null,
  /** The loaded messages of the open channel: all those between the first and the last one. Without replies. */
  messages: new Map(),
  /** The page cursors of what is before and after the loaded messages; null: nothing is. */
  range: { earlier: null, later: null },
  /** How many times pages were applied. */
  pagesApplied: 0,
  /**
   * The thread beside the channel: {id, first, replies, earlier, pagesApplied}, or null. `first`: its first message,
   * null until it is loaded. `replies`: the newest ones, without a gap. `earlier`: the page cursor of those before.
   */
  thread: null,
  /**
   * Own messages of all tabs, in the order in which they are sent: {id, channel_id, thread_id?, source, created_at,
   * status: waiting | sending | sent | refused, files?, uploading?, isDelayed?, problem?, messageId?}. `isDelayed`: an
   * attempt has failed, and others follow. `files`: {id, name, blob}. `uploading`: the number of the file.
   */
  outbox: [],
  /** User id to {key}: the draft key of the channel or thread in which the user is shown as typing. */
  typing: new Map(),
  /** {phase: connecting | online | waiting | stopped, retryAt?, instance?} */
  connection: { phase: "stopped" },
  /** Which lists have been loaded. */
  loaded: { users: false, channels: false, messages: false, thread: false },
  /** The first message that was unread when the channel was opened. A line is shown above it. */
  unreadFrom: null,
};

const listeners = new Map();
const changedTopics = new Set();

/**
 * Calls `listener` after a topic has changed: users, channels, channel (another one is open), members, messages, thread
 * (and its replies), outbox, draft (the text of an entry was moved back), typing, connection, session, editing,
 * deleting, reactions, marks, preferences, reading (the end of the list is in sight).
 */
export function on(topics, listener) {
  for (const topic of topics) listeners.set(topic, [...(listeners.get(topic) ?? []), listener]);
}

// Many frames may arrive at once, for example after a reconnect. Each listener is called once for all of them, just
// before the browser draws the window. It draws no hidden windows.
export function changed(topic) {
  if (changedTopics.size === 0) (document.hidden ? setTimeout : requestAnimationFrame)(callListeners);
  changedTopics.add(topic);
}

function callListeners() {
  const affected = new Set([...changedTopics].flatMap((topic) => listeners.get(topic) ?? []));
  changedTopics.clear();
  for (const listener of affected) listener();
}

// The models that the socket has delivered while a list is read. The answer may be older. Null: nothing is read.
const newerThanRead = { users: null, channels: null, messages: null, thread: null };

export function beginRead(name) {
  newerThanRead[name] = new Map();
}

/** Applies the list of users. Version 1 deletes nothing, so known users that are not listed are kept. */
export function applyUsers(users) {
  for (const user of users) if (!newerThanRead.users.has(user.id)) state.users.set(user.id, user);
  newerThanRead.users = null;
  state.loaded.users = true;
  changed("users");
}

/**
 * Applies profiles. One of the socket may be newer. `known`: those before the complete list was read. If it does not
 * have them, they are empty now.
 */
export function applyProfiles(profiles, known = new Map()) {
  const listed = new Set(profiles.map(({ user_id: id }) => id));
  for (const [id, profile] of known) {
    if (!listed.has(id) && state.profiles.get(id) === profile) state.profiles.delete(id);
  }
  for (const profile of profiles) {
    if (state.profiles.get(profile.user_id)?.version > profile.version) continue;
    state.profiles.set(profile.user_id, profile);
  }
  changed("users");
}

/** Applies one user from the socket, with the profile unless it is empty. */
export function applyUser({ profile, ...user }) {
  // Events may be duplicates or late.
  if (state.users.get(user.id)?.updated_at > user.updated_at) return;
  if (profile) applyProfiles([profile]);
  else state.profiles.delete(user.id);
  newerThanRead.users?.set(user.id, user);
  state.users.set(user.id, user);
  changed("users");
}

/** Applies the complete list of channels. */
export function applyChannels(channels) {
  const newer = newerThanRead.channels;
  newerThanRead.channels = null;
  const listed = new Set(channels.map(({ id }) => id));
  for (const id of [...state.channels.keys()]) if (!listed.has(id) && !newer.has(id)) state.channels.delete(id);
  for (const channel of channels) {
    const member = (newer.has(channel.id) && state.channels.get(channel.id)?.member) || channel.member;
    applyChannel({ ...channel, member });
  }
  state.loaded.channels = true;
  changed("channels");
}

/** The versions of the memberships that have ended in this window. */
const leftVersions = new Map();

/** Applies a channel from REST, with the membership of the user. */
export function applyChannel(channel) {
  const known = state.channels.get(channel.id);
  const newest = known?.version > channel.version ? known : channel;
  let { member } = channel;
  if (known?.member?.version > member?.version) member = known.member;
  if (member?.version < leftVersions.get(channel.id)) member = undefined;
  newerThanRead.channels?.set(channel.id, true);
  state.channels.set(channel.id, { ...newest, user_ids: channel.user_ids ?? known?.user_ids, member });
  changed("channels");
}

/** Applies a channel from the socket, which has no membership. Returns false if the membership has to be read. */
export function applyChannelModel(model) {
  const known = state.channels.get(model.id);
  if (!known && model.kind !== "public") return false;
  if (known?.version > model.version) return true;
  newerThanRead.channels?.set(model.id, true);
  state.channels.set(model.id, { ...model, user_ids: known?.user_ids, member: known?.member });
  changed("channels");
  return true;
}

/** Changes the membership of the user. `member` null: it has ended. */
export function setMembership(channelId, member, version) {
  const channel = state.channels.get(channelId);
  if (!channel) return;
  newerThanRead.channels?.set(channelId, true);
  if (member) state.channels.set(channelId, { ...channel, member: { ...channel.member, ...member } });
  else {
    leftVersions.set(channelId, version);
    // Others than members do not see it.
    if (channel.kind === "public") state.channels.set(channelId, { ...channel, member: undefined });
    else state.channels.delete(channelId);
  }
  changed("channels");
}

/** The channel that is shown; undefined if there is none. */
export const openChannel = () => state.channels.get(state.channelId);

/** Shows another channel; its messages have to be loaded. */
export function setOpenChannel(id) {
  state.channelId = id;
  state.members = null;
  state.messages = new Map();
  state.range = { earlier: null, later: null };
  state.loaded.messages = false;
  state.unreadFrom = null;
  setOpenThread(null);
  changed("channel");
}

/** Shows another thread, or none; its replies have to be loaded. */
export function setOpenThread(id) {
  const first = state.messages.get(id) ?? null;
  state.thread = id === null ? null : { id, first, replies: new Map(), earlier: null, pagesApplied: 0 };
  state.loaded.thread = false;
  changed("thread");
}

/** Applies the members of the open channel. */
export function applyMembers({ everyone, members }) {
  state.members = everyone ? null : new Map(members.map((member) => [member.user_id, member]));
  changed("members");
}

/** Applies the membership of any user in the open channel. */
export function applyMember(member) {
  if (member.channel_id !== state.channelId || !state.members) return;
  if (state.members.get(member.user_id)?.version >= member.version) return;
  if (member.left_at) state.members.delete(member.user_id);
  else state.members.set(member.user_id, member);
  changed("members");
}

/** Channel id to the largest id of a message that this window knows. */
const newestIds = new Map();

export const newestIdOf = (channelId) => newestIds.get(channelId) ?? 0;

const setNewestId = ({ id, channel_id: channelId }) => newestIds.set(channelId, Math.max(newestIdOf(channelId), id));

/**
 * Applies pages of messages, each with its place: `instead` of the loaded messages, `before` or `after` them, or `over`
 * them, which only changes known ones: the socket has delivered them without page cursors.
 */
export function applyPages(pages) {
  const newer = newerThanRead.messages;
  for (const { page, place } of pages) {
    if (place === "instead") state.messages.clear();
    const isWanted = ({ id }) => place !== "over" || state.messages.has(id);
    for (const message of page.messages.filter(isWanted)) {
      state.messages.set(message.id, newest(message, newer.get(message.id)));
      setNewestId(message);
    }
    if (place === "instead" || place === "before") state.range.earlier = page.earlier;
    if (place === "instead" || place === "after") state.range.later = page.later;
  }
  for (const [id, model] of newer) if (!state.messages.has(id) && isInRange(id)) state.messages.set(id, model);
  newerThanRead.messages = null;
  state.loaded.messages = true;
  state.pagesApplied += 1;
  changed("messages");
}

/**
 * Forgets about `count` messages at one end of the range (`earlier` or `later`), and at most `max`. Forgets none when
 * there is no page cursor that would load them again.
 */
export function forgetMessages(end, count, max) {
  const inOrder = messagesInOrder();
  const messages = end === "earlier" ? inOrder : inOrder.reverse();
  let cut = messages.findIndex(({ cursor }, index) => cursor && index >= count && index <= max);
  if (cut < 0) cut = messages.findLastIndex(({ cursor }, index) => cursor && index < count);
  if (cut <= 0) return;
  for (const { id } of messages.slice(0, cut)) state.messages.delete(id);
  state.range[end] = messages[cut].cursor;
}

// During an upgrade an instance may still send messages without versions.
function isLate(message, known) {
  const by = known.version && message.version ? "version" : "updated_at";
  return known[by] > message[by];
}

/** Applies a page of the open thread: its newest replies, or those `before` the loaded ones. */
export function applyThreadPage({ first, page, place }) {
  const { thread } = state;
  const newer = newerThanRead.thread;
  newerThanRead.thread = null;
  thread.first = newest(first, newest(newer.get(thread.id), thread.first));
  if (place === "instead") thread.replies.clear();
  thread.earlier = page.earlier;
  for (const reply of page.messages) thread.replies.set(reply.id, newest(reply, newer.get(reply.id)));
  for (const [id, reply] of newer) if (reply.thread_id === thread.id) thread.replies.set(id, reply);
  thread.pagesApplied += 1;
  state.loaded.thread = true;
  changed("thread");
}

// Events may be duplicates or late. Pages have the author's nickname and a page cursor, and events have not.
function newest(message, known) {
  if (!known || !message) return message ?? known;
  const [older, newer] = isLate(message, known) ? [message, known] : [known, message];
  return { ...newer, nickname: newer.nickname ?? older.nickname, cursor: newer.cursor ?? older.cursor };
}

/** Applies a message to the open thread, if it is part of it. */
function applyToThread(message) {
  const { thread } = state;
  const { id } = message;
  if (id === thread.id) thread.first = newest(message, thread.first);
  else if (message.thread_id !== thread.id) return;
  // An earlier one is loaded with its page.
  else if (thread.replies.has(id) || thread.earlier === null || id > Math.min(...thread.replies.keys())) {
    thread.replies.set(id, newest(message, thread.replies.get(id)));
  }
  newerThanRead.thread?.set(id, message);
  changed("thread");
}

/** Applies one message from the socket or from REST. Returns whether it is new to this window. */
export function applyMessage(message) {
  const { id } = message;
  const newestId = newestIdOf(message.channel_id);
  setNewestId(message);
  if (state.thread) applyToThread(message);
  // Of other channels and of threads, this window has no messages: a first version is new.
  if (message.channel_id !== state.channelId || message.thread_id) {
    return id > newestId && message.updated_at === message.created_at;
  }
  const before = state.messages.get(id);
  // Events may be duplicates or late.
  if (before && isLate(message, before)) return false;
  newerThanRead.messages?.set(id, message);
  // An unknown message may also be an old one that was edited. It is loaded with its page.
  const isShown = before || isInRange(id);
  if (isShown) {
    state.messages.set(id, newest(message, before));
    changed("messages");
  }
  return !before && (isShown || id > newestId);
}

// Whether a message is between the first and the last loaded one, or next to them without a gap.
function isInRange(id) {
  const { earlier, later } = state.range;
  const ids = [...state.messages.keys()];
  return (earlier === null || id > Math.min(...ids)) && (later === null || id < Math.max(...ids));
}

/** A loaded message of the open channel or of the open thread. */
export function messageOf(id) {
  const { messages, thread } = state;
  return messages.get(id) ?? thread?.replies.get(id) ?? (thread?.id === id ? thread?.first : null) ?? undefined;
}

/** Whether this window shows the channel of a message, or the thread of a reply. */
export const isPlaceOpen = ({ channel_id: channelId, thread_id: threadId }) =>
  channelId === state.channelId && (!threadId || threadId === state.thread?.id);

/** The entries of the outbox that are shown in a channel, or in a thread. */
export const outgoingIn = (channelId, threadId) => state.outbox.filter((entry) =>
  entry.channel_id === channelId && entry.thread_id === threadId && !entry.shownAs);

/** Where the draft is stored of a channel, or of a thread. */
export const draftKey = ({ channel_id: channelId, thread_id: threadId }) =>
  (threadId ? `${channelId}/${threadId}` : channelId);

export const mentionsUser = ({ mentions }, userId) =>
  Boolean(mentions?.everyone || mentions?.user_ids?.includes(userId));

export const nicknameOf = (userId, nickname) => state.users.get(userId)?.nickname ?? nickname ?? `user ${userId}`;

/** The name that is shown: that of the profile, or the nickname. */
export const shownNameOf = (userId, nickname) =>
  state.profiles.get(userId)?.display_name || nicknameOf(userId, nickname);

// The golden angle gives neighbouring ids different hues.
export const hueOf = (userId) => state.profiles.get(userId)?.hue ?? Math.round((userId * 137.508 + 160) % 360);

/** In the order of their ids, as in pages. */
export function messagesInOrder() {
  return [...state.messages.values()].sort((a, b) => a.id - b.id);
}

export const repliesInOrder = () => [...(state.thread?.replies.values() ?? [])].sort((a, b) => a.id - b.id);

export function setConnection(connection) {
  state.connection = connection;
  changed("connection");
}

/** Forgets what only the user who signs out may see. */
export function clearUserState() {
  state.channels = new Map([[GENERAL_ID, GENERAL]]);
  state.loaded.channels = false;
  leftVersions.clear();
  newestIds.clear();
  state.typing.clear();
  setOpenChannel(null);
}
