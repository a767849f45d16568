// The state of this window. Views read it and subscribe to its topics. Only this file and the outbox change it.

/** The only channel of version 1. */
export const CHANNEL = "general";

export const state = {
  users: new Map(),
  messages: new Map(),
  /** Own messages: {id, source, created_at, status: waiting | sending | sent | failed, problem?, messageId?}. */
  outbox: [],
  /** User id to the time until which the user is shown as typing. */
  typing: new Map(),
  /** {phase: connecting | online | waiting | stopped, retryAt?} */
  connection: { phase: "stopped" },
  /** Whether the lists of users and messages have been loaded. */
  loaded: false,
  /** The first message that was unread when this window was opened. A line is shown above it. */
  unreadFrom: null,
};

const listeners = new Map();
const changedTopics = new Set();

/** Calls `listener` after a topic has changed: users, messages, outbox, typing, connection, session, editing. */
export function on(topics, listener) {
  for (const topic of topics) listeners.set(topic, [...(listeners.get(topic) ?? []), listener]);
}

// Many frames may arrive at once, for example after a reconnect. Each listener is called once for all of them.
export function changed(topic) {
  if (changedTopics.size === 0) setTimeout(callListeners);
  changedTopics.add(topic);
}

function callListeners() {
  const affected = new Set([...changedTopics].flatMap((topic) => listeners.get(topic) ?? []));
  changedTopics.clear();
  for (const listener of affected) listener();
}

// Models that the socket has delivered since a reload began. The lists of the reload may be older.
let newerThanLists = new Set();

export function beginReload() {
  newerThanLists = new Set();
}

/** Applies the lists of a reload. Version 1 deletes nothing, so known models that are not listed are kept. */
export function applyLists(users, messages) {
  for (const user of users) if (!newerThanLists.has(`User ${user.id}`)) state.users.set(user.id, user);
  for (const message of messages) {
    if (!newerThanLists.has(`Message ${message.id}`)) state.messages.set(message.id, message);
  }
  state.loaded = true;
  for (const topic of ["users", "messages"]) changed(topic);
}

/** Applies one model from the socket or from REST. Returns whether it was unknown before. */
export function applyModel(modelClass, model) {
  const [known, topic] = modelClass === "User" ? [state.users, "users"] : [state.messages, "messages"];
  const before = known.get(model.id);
  // Events may be duplicates or late.
  if (before && before.updated_at > model.updated_at) return false;
  newerThanLists.add(`${modelClass} ${model.id}`);
  // Lists have the author's nickname; single models do not.
  known.set(model.id, { nickname: before?.nickname, ...model });
  changed(topic);
  return !before;
}

export function nicknameOf(message) {
  return state.users.get(message.user_id)?.nickname ?? message.nickname ?? `user ${message.user_id}`;
}

/** In the order of their creation. */
export function messagesInOrder() {
  return [...state.messages.values()].sort((a, b) => a.created_at - b.created_at || a.id - b.id);
}

export function setConnection(connection) {
  state.connection = connection;
  changed("connection");
}
