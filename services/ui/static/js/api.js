// The REST API: one function for each operation that this app uses. Every call has a timeout and fails with a
// `Problem`.

const TIMEOUT_MS = 10_000;
// A limit for the memory of a browser window: a hundred thousand rows.
const PAGES_MAX = 100;

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

// Includes nicknames, so that messages can be shown before the list of users arrives.
export const listMessages = () => listAll("/api/messages?include=nickname&", "messages");

export const getMessage = (id) => call("GET", `/api/messages/${id}`);

/** `key` is an idempotency key: two requests with the same key create one message. */
export const createMessage = (token, source, key) =>
  call("POST", "/api/messages", { authorization: bearer(token), body: { source }, key });

export const updateMessage = (token, id, source) =>
  call("PUT", `/api/messages/${id}`, { authorization: bearer(token), body: { source } });

export const getPreferences = (token) => call("GET", "/api/ui/preferences", { authorization: bearer(token) });

export const setPreferences = (token, preferences) =>
  call("PUT", "/api/ui/preferences", { authorization: bearer(token), body: preferences });

export const listReadMarkers = async (token) =>
  (await call("GET", "/api/ui/read_markers", { authorization: bearer(token) })).read_markers;

export const setReadMarker = (token, channel, messageId) =>
  call("PUT", `/api/ui/read_markers/${channel}`, { authorization: bearer(token), body: { message_id: messageId } });

export const getStats = () => call("GET", "/stats");

const BEARER = "Bearer ";
const bearer = (token) => BEARER + token;

// btoa takes bytes, and nicknames may have any letters: they are encoded as UTF-8 first.
const basic = (nickname, password) =>
  `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${nickname}:${password}`)))}`;

async function call(method, path, { authorization, body, key } = {}) {
  const headers = { Accept: "application/json" };
  if (authorization) headers.Authorization = authorization;
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;

  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      cache: "no-store",
      credentials: "omit",
    });
  } catch {
    throw new Problem(0, "The server did not answer. Check the connection and try again.");
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
