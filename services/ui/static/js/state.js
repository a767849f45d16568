// The state of this window. Views read it and subscribe to its topics. Only this file and the outbox change it.

import { GENERAL_ID } from "./api.js";

// Until the list of channels is loaded. It can be read and posted to before.
const GENERAL = { id: GENERAL_ID, name: "general", kind: "public", topic: "", version: -1 };

export const state = {
  users: new Map(),
  /**
   * The public channels, and those of the user. `member`: of the user, absent without a membership: {unread,
   * last_read_message_id, version}.
   */
  channels: new Map([[GENERAL_ID, GENERAL]]),
  /** The channel that is shown; null until it is found by the address of the page. */
  channelId: null,
  /** The members of the open channel by their id; null: not loaded, or everybody. */
  members: null,
  /** The loaded messages of the open channel: all those between the first and the last one. */
  messages: new Map(),
  /** The page cursors of what is before and after the loaded messages; null: nothing is. */
  range: { earlier: null, later: null },
  /** How many times pages were applied. */
  pagesApplied: 0,
  /**
   * Own messages of all tabs, in the order in which they are sent: {id, channel_id, source, created_at, status:
   * waiting | sending | sent | refused, isDelayed?, problem?, messageId?}. `isDelayed`: an attempt has failed, and
   * others follow.
   */
  outbox: [],
  /** User id to {channelId}: where the user is shown as typing. */
  typing: new Map(),
  /** {phase: connecting | online | waiting | stopped, retryAt?, instance?} */
  connection: { phase: "stopped" },
  /** Which lists have been loaded. */
  loaded: { users: false, channels: false, messages: false },
  /** The first message that was unread when the channel was opened. A line is shown above it. */
  unreadFrom: null,
};

const listeners = new Map();
const changedTopics = new Set();

/**
 * Calls `listener` after a topic has changed: users, channels, channel (another one is open), members, messages,
 * outbox, draft (the text of an entry was moved back), typing, connection, session, editing, deleting, reading (the end
 * of the list is in sight).
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
const newerThanRead = { users: null, channels: null, messages: null };

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

/** Applies one user from the socket. */
export function applyUser(user) {
  // Events may be duplicates or late.
  if (state.users.get(user.id)?.updated_at > user.updated_at) return;
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
  changed("channel");
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
      state.messages.set(message.id, { ...message, ...newer.get(message.id) });
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

/** Applies one message from the socket or from REST. Returns whether it is new to this window. */
export function applyMessage(message) {
  const { id } = message;
  const newestId = newestIdOf(message.channel_id);
  setNewestId(message);
  // Of other channels, this window has no messages: a first version is new.
  if (message.channel_id !== state.channelId) return id > newestId && message.updated_at === message.created_at;
  const before = state.messages.get(id);
  // Events may be duplicates or late.
  if (before && before.updated_at > message.updated_at) return false;
  newerThanRead.messages?.set(id, message);
  // An unknown message may also be an old one that was edited. It is loaded with its page.
  const isShown = before || isInRange(id);
  if (isShown) {
    // Pages have the author's nickname and a page cursor; events have no nickname.
    state.messages.set(id, { nickname: before?.nickname, cursor: before?.cursor, ...message });
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

export const nicknameOf = (userId, nickname) => state.users.get(userId)?.nickname ?? nickname ?? `user ${userId}`;

/** In the order of their ids, as in pages. */
export function messagesInOrder() {
  return [...state.messages.values()].sort((a, b) => a.id - b.id);
}

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
