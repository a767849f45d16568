// The session: the user of this browser, and the drafts of this tab.
//
// The session is in localStorage, so that all tabs have the same user and the same token. It survives the end of the
// browser, for as long as the token is valid: an hour at most. A cookie would be sent with requests that other sites
// cause. Foreign scripts, which could read the token, are prevented by the Content-Security-Policy, Trusted Types and
// HTML that the server has sanitized.
//
// Drafts are in sessionStorage: two tabs may have two drafts for one channel. What is sent is in the outbox.

/** {token, nickname, user_id}: one entry, so that other tabs receive a change as a whole. */
const KEY = "flack.session";

const parse = (text) => JSON.parse(text ?? "{}");
const read = () => parse(localStorage.getItem(KEY));
const change = (part) => localStorage.setItem(KEY, JSON.stringify({ ...read(), ...part }));

const drafts = () => JSON.parse(sessionStorage.getItem("flack.drafts") ?? "{}");

export const session = {
  /** null when no user is signed in, or when the token has expired. */
  get token() { return read().token ?? null; },
  set token(token) { change({ token }); },

  /** Kept after the token has expired, for the sign-in form. */
  get nickname() { return read().nickname ?? null; },

  /** Received from the server. The app does not parse the token. */
  get userId() { return read().user_id ?? null; },
  set userId(userId) { if (userId !== this.userId) change({ user_id: userId }); },

  /** Replaces the session; other tabs follow. */
  signIn({ nickname, token, userId }) {
    localStorage.setItem(KEY, JSON.stringify({ nickname, token, user_id: userId }));
  },

  draftOf(channelId) { return drafts()[channelId] ?? ""; },
  setDraft(channelId, text) {
    const { [channelId]: _, ...others } = drafts();
    if (text) others[channelId] = text;
    try {
      sessionStorage.setItem("flack.drafts", JSON.stringify(others));
    } catch {
      // Browsers store some megabytes. A longer draft is kept in its field only.
    }
  },
  clearDrafts() { sessionStorage.removeItem("flack.drafts"); },

  clear() {
    localStorage.removeItem(KEY);
    this.clearDrafts();
  },
};

/** Nicknames that differ only in upper and lower case are one user. */
export const isSameUser = (nickname, other) => nickname?.toLowerCase() === other?.toLowerCase();

/** Calls `listener` with the session before each change in another tab. */
export function onSessionChangedElsewhere(listener) {
  addEventListener("storage", ({ key, oldValue }) => {
    // The key is null when everything was removed.
    if (key === KEY || key === null) listener(parse(oldValue));
  });
}

/** Moves the session of this tab from where an earlier version of the app has stored it. Returns its outbox. */
export function moveEarlierSession() {
  const stored = (name) => JSON.parse(sessionStorage.getItem(`flack.${name}`) ?? "null");
  const [token, nickname, userId, outbox] = ["token", "nickname", "user_id", "outbox"].map(stored);
  for (const name of ["token", "nickname", "user_id", "outbox"]) sessionStorage.removeItem(`flack.${name}`);
  if (!nickname) return [];
  if (!session.nickname) session.signIn({ nickname, token, userId });
  return isSameUser(nickname, session.nickname) ? outbox ?? [] : [];
}
