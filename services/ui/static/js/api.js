// The REST API: one function for each operation that this app uses. Every call has a timeout and fails with a
// `Problem`.

const TIMEOUT_MS = 10_000;
/** For a file: 1 MiB over a slow mobile connection. */
const FILE_TIMEOUT_MS = 45_000;
// A limit for the memory of a browser window: a hundred thousand users.
const PAGES_MAX = 100;

/** The last characters of a longer name have its extension. */
const FILE_NAME_MAX = 120;

/** The id of the channel `general` of every stack. */
export const GENERAL_ID = 1;

const CHANNELS = "/api/v2/channels";
const MESSAGES = "/api/v2/messages";
const PROFILES = "/api/v2/profiles";
const PROFILES_PER_PAGE = 250;

/** A failed call. The message is for users. `status` is 0 when there was no answer. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get isTransient() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

let tokenRefused = () => {};

/** Calls `listener` with the token that any call was refused for. */
export function onTokenRefused(listener) {
  tokenRefused = listener;
}

// The rules for new passwords that version 2 of the API will always apply.
const RULES = { password_rules: "strict" };

export const createUser = (nickname, password) =>
  call("POST", "/api/users", { body: { nickname, password, ...RULES } });

/** Revokes all tokens of the user. */
export const changePassword = (token, userId, currentPassword, password) =>
  call("PUT", `/api/users/${userId}`, {
    authorization: bearer(token),
    body: { current_password: currentPassword, password, ...RULES },
  });

export const createToken = async (nickname, password) =>
  (await call("POST", "/api/tokens", { authorization: basic(nickname, password) })).token;

export const revokeToken = (token) => call("DELETE", "/api/tokens", { authorization: bearer(token) });

export const setMeOnline = (token) => call("PUT", "/api/users/me", { authorization: bearer(token) });

export const setMeOffline = (token) => call("DELETE", "/api/users/me", { authorization: bearer(token) });

export const listUsers = () => listAll("/api/users?", "users");

/** The profiles that are not empty. */
export async function listProfiles() {
  const profiles = [];
  for (let page = 0, after = 0; page < PAGES_MAX && after !== undefined; page += 1) {
    const more = (await call("GET", `${PROFILES}?after=${after}`)).profiles;
    profiles.push(...more);
    after = more.length >= PROFILES_PER_PAGE ? more.at(-1).user_id : undefined;
  }
  return profiles;
}

export const updateProfile = (token, userId, profile) =>
  call("PATCH", `${PROFILES}/${userId}`, { authorization: bearer(token), body: profile });

export const listChannels = async (token) =>
  (await call("GET", CHANNELS, { authorization: bearer(token) })).channels;

/** With `user_ids`, the direct channel of these people, which may exist already. */
export const createChannel = (token, channel) =>
  call("POST", CHANNELS, { authorization: bearer(token), body: channel });

export const getChannel = (token, id) => call("GET", `${CHANNELS}/${id}`, { authorization: bearer(token) });

/** `change` has a topic, or whether the channel is archived. */
export const updateChannel = (token, id, change) =>
  call("PATCH", `${CHANNELS}/${id}`, { authorization: bearer(token), body: change });

export const listMembers = (token, id) => call("GET", `${CHANNELS}/${id}/members`, { authorization: bearer(token) });

/** Joins a public channel, or invites another user. */
export const addMember = (token, id, userId) =>
  call("PUT", `${CHANNELS}/${id}/members/${userId}`, { authorization: bearer(token) });

export const leaveChannel = (token, id, userId) =>
  call("DELETE", `${CHANNELS}/${id}/members/${userId}`, { authorization: bearer(token) });

/** Arrives also when the page is closed. */
export const setReadPosition = (token, id, messageId) => call("PUT", `${CHANNELS}/${id}/read`,
  { authorization: bearer(token), body: { message_id: messageId }, keepalive: true });

/**
 * A page of messages of a channel: the newest ones, or those `before` or `after` a page cursor. With nicknames, so that
 * messages can be shown before the list of users arrives.
 */
export async function listMessagesPage(token, channelId, position = {}) {
  // Everybody can read `general`, also when the token has expired.
  const isGeneral = channelId === GENERAL_ID;
  const path = isGeneral ? MESSAGES : `${CHANNELS}/${channelId}/messages`;
  const query = new URLSearchParams(position).toString();
  const page = await call("GET", query ? `${path}?${query}` : path, isGeneral ? {} : { authorization: bearer(token) });
  return { ...page, messages: page.messages.map(messageFrom) };
}

/** The message of any id that the user can see. */
export const getMessage = async (token, id) =>
  messageFrom(await call("GET", `${MESSAGES}/${id}`, { authorization: bearer(token) }));

/** A page of the replies to a message: the newest ones, or those `before` a page cursor. */
export async function listReplies(token, id, position = {}) {
  const query = new URLSearchParams(position).toString();
  const path = `${MESSAGES}/${id}/replies${query && "?"}${query}`;
  const page = await call("GET", path, { authorization: bearer(token) });
  return { ...page, messages: page.messages.map(messageFrom) };
}

/** Sets or removes an own reaction. */
export const setReaction = (token, id, emoji, isSet) => call(isSet ? "PUT" : "DELETE",
  `${MESSAGES}/${id}/reactions/${encodeURIComponent(emoji)}`, { authorization: bearer(token) });

export const setPinned = (token, id, isPinned) =>
  call(isPinned ? "PUT" : "DELETE", `${MESSAGES}/${id}/pin`, { authorization: bearer(token) });

export const listPins = async (token, channelId) => (await call("GET", `${CHANNELS}/${channelId}/pins`,
  { authorization: bearer(token) })).messages.map(messageFrom);

/** A page of the messages that match a query, of which the user can read the channels. */
export const search = (token, q, cursor) =>
  call("GET", `/api/search?${new URLSearchParams(cursor ? { q, cursor } : { q })}`, { authorization: bearer(token) });

/** `key` is an idempotency key: two requests with the same key create one message. */
export const createMessage = async (token, channelId, message, key) => messageFrom(await call("POST",
  `${CHANNELS}/${channelId}/messages`, { authorization: bearer(token), body: message, key }));

export const updateMessage = async (token, id, source) =>
  messageFrom(await call("PATCH", `${MESSAGES}/${id}`, { authorization: bearer(token), body: { source } }));

/** Stores a file for a message. `key` is an idempotency key. */
export const createFile = (token, channelId, { id: key, name, blob }) => call("POST",
  `${CHANNELS}/${channelId}/files?name=${encodeURIComponent(Array.from(name).slice(-FILE_NAME_MAX).join(""))}`,
  { authorization: bearer(token), file: blob, key });

/** The content of a file of a message, as a blob. */
export const getFile = (token, messageId, id) =>
  call("GET", `${MESSAGES}/${messageId}/files/${id}`, { authorization: bearer(token), isFile: true });

/** The HTML that the source would have as a message. */
export const renderMessage = async (token, source) =>
  (await call("POST", `${MESSAGES}/preview`, { authorization: bearer(token), body: { source } })).html;

/** Arrives also when the page is closed. */
export const deleteMessage = (token, id) =>
  call("DELETE", `${MESSAGES}/${id}`, { authorization: bearer(token), keepalive: true });

/** A message of version 2 with its times in seconds, as those of users are. */
export function messageFrom(model) {
  // During an upgrade an instance may still send version 1: messages of `general`, with times in seconds.
  const message = { channel_id: GENERAL_ID, ...model };
  for (const name of ["created_at", "updated_at", "edited_at", "deleted_at", "last_reply_at", "pinned_at"]) {
    if (typeof message[name] === "string") message[name] = Math.floor(Date.parse(message[name]) / 1000);
  }
  return message;
}

export const getPreferences = (token) => call("GET", "/api/ui/preferences", { authorization: bearer(token) });

export const setPreferences = (token, preferences) =>
  call("PUT", "/api/ui/preferences", { authorization: bearer(token), body: preferences });

/** Those of the messages that match the user's interests, and what matches. */
export const tagMessages = async (token, ids) =>
  (await call("GET", `/api/tag?ids=${ids.join(",")}`, { authorization: bearer(token) })).messages;

/** Public channels that the user has not joined, each with the reason. */
export const recommendChannels = async (token) =>
  (await call("GET", "/api/recommend", { authorization: bearer(token) })).channels;

/** Not one of the last calls, because only those who look at these cause it. */
export const listParts = async (token) =>
  (await call("GET", "/api/ui/parts", { authorization: bearer(token), isRecorded: false })).parts;

export const getStats = () => call("GET", "/stats");

const BEARER = "Bearer ";
const bearer = (token) => BEARER + token;

// btoa takes bytes, and nicknames may have any letters: they are encoded as UTF-8 first.
const basic = (nickname, password) =>
  `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${nickname}:${password}`)))}`;

/** The last calls of this tab: {at, method, path, status, ms, service, instance, version, correlationId}. */
export const calls = [];
const CALLS_MAX = 50;

/** Called after each call; null while nothing shows them. */
let called = null;

export function onCall(listener) {
  called = listener;
}

function record(method, path, startedAt, response) {
  const header = (name) => response?.headers.get(name) ?? null;
  calls.unshift({
    at: Date.now(),
    method,
    path,
    status: response?.status ?? 0,
    ms: performance.now() - startedAt,
    service: header("X-Flack-Service"),
    instance: header("X-Flack-Instance"),
    version: header("X-Flack-Version"),
    correlationId: header("X-Correlation-ID"),
  });
  calls.length = Math.min(calls.length, CALLS_MAX);
  called?.();
}

async function call(method, path, options = {}) {
  const { authorization, body, file, isFile, key, keepalive = false, isRecorded = true } = options;
  const headers = { Accept: isFile ? "*/*" : "application/json" };
  if (authorization) headers.Authorization = authorization;
  if (body) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = "application/octet-stream";
  if (key) headers["Idempotency-Key"] = key;

  const startedAt = performance.now();
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: file ?? (body && JSON.stringify(body)),
      signal: AbortSignal.timeout(file || isFile ? FILE_TIMEOUT_MS : TIMEOUT_MS),
      cache: "no-store",
      credentials: "omit",
      keepalive,
    });
  } catch {
    if (isRecorded) record(method, path, startedAt);
    throw new Problem(0, "The server did not answer. Check the connection and try again.");
  }
  if (isRecorded) record(method, path, startedAt, response);
  if (response.ok && isFile) {
    return response.blob().catch(() => { throw new Problem(0, "The file did not arrive completely. Try again."); });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401 && authorization?.startsWith(BEARER)) tokenRefused(authorization.slice(BEARER.length));
  throw new Problem(response.status, answer?.detail ?? answer?.error ?? `The server answered ${response.status}.`);
}

// `updated_since` is in whole seconds, rounded down: a page may begin with rows of the previous page. A page ends at a
// number of rows or bytes; the last one has nothing later.
async function listAll(path, member) {
  const byId = new Map();
  let since = 0;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const items = (await call("GET", since ? `${path}updated_since=${since}` : path.slice(0, -1)))[member];
    for (const item of items) byId.set(item.id, item);
    const last = items.at(-1)?.updated_at;
    if (!last || last === since) break;
    since = last;
  }
  return [...byId.values()];
}
