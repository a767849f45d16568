// State: what this window knows. Views read it and are told when a part of it has changed; only the functions here
// and the outbox write it.

/** The one channel of version 1. */
export const CHANNEL = "general";

export const state = {
  users: new Map(),
  messages: new Map(),
  /** Own messages on their way: {id, source, created_at, status: waiting | sending | sent | failed, problem?, messageId?}. */
  outbox: [],
  /** user id -> when to stop showing that they type. */
  typing: new Map(),
  /** {phase: connecting | online | waiting | stopped, retryAt?} */
  connection: { phase: "stopped" },
  /** Whether the messages of the last day have been read from the server. */
  loaded: false,
  /** The first message that had not been read when this window was opened: a line is drawn above it. */
  unreadFrom: null,
};

const listeners = new Map();
const pending = new Set();

/** Calls `listener` after any of the topics has changed: users, messages, outbox, typing, connection, session. */
export function on(topics, listener) {
  for (const topic of topics) listeners.set(topic, [...(listeners.get(topic) ?? []), listener]);
}

// Many frames may arrive at once, after a reconnect above all: each view is told once for all of them.
export function changed(topic) {
  if (pending.size === 0) setTimeout(tell);
  pending.add(topic);
}

function tell() {
  const due = new Set([...pending].flatMap((topic) => listeners.get(topic) ?? []));
  pending.clear();
  for (const listener of due) listener();
}

// Which models the socket has brought since a reload began. The lists of a reload may be older than those.
let newerThanLists = new Set();

export function beginReload() {
  newerThanLists = new Set();
}

/** The lists of a reload. Nothing is ever deleted in version 1, so what is known and not listed stays. */
export function acceptLists(users, messages) {
  for (const user of users) if (!newerThanLists.has(`User ${user.id}`)) state.users.set(user.id, user);
  for (const message of messages) if (!newerThanLists.has(`Message ${message.id}`)) state.messages.set(message.id, message);
  state.loaded = true;
  for (const topic of ["users", "messages"]) changed(topic);
}

/** One model from the socket or from a single request. Answers whether it was not known before. */
export function acceptModel(modelClass, model) {
  const [known, topic] = modelClass === "User" ? [state.users, "users"] : [state.messages, "messages"];
  const before = known.get(model.id);
  // Events may come again, and late.
  if (before && before.updated_at > model.updated_at) return false;
  newerThanLists.add(`${modelClass} ${model.id}`);
  // Lists name the author; single models do not.
  known.set(model.id, { nickname: before?.nickname, ...model });
  changed(topic);
  return !before;
}

export function nicknameOf(message) {
  return state.users.get(message.user_id)?.nickname ?? message.nickname ?? `user ${message.user_id}`;
}

/** In the order in which they were said. */
export function messagesInOrder() {
  return [...state.messages.values()].sort((a, b) => a.created_at - b.created_at || a.id - b.id);
}

export function setConnection(connection) {
  state.connection = connection;
  changed("connection");
}
