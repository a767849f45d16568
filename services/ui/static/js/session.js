// The session: the user of this window, and what must survive a page reload.
//
// The token is in sessionStorage. It belongs to one window (two windows can have two users) and is deleted when the
// window is closed. A cookie would be sent with requests that other sites cause. localStorage is shared by all windows
// and is permanent. Foreign scripts, which could read the token, are prevented by the Content-Security-Policy, Trusted
// Types and HTML that the server has sanitized.

const read = (name) => JSON.parse(sessionStorage.getItem(`flack.${name}`) ?? "null");

const write = (name, value) => {
  if (value === null || value === undefined) sessionStorage.removeItem(`flack.${name}`);
  else sessionStorage.setItem(`flack.${name}`, JSON.stringify(value));
};

export const session = {
  /** null when no user is signed in, or when the token has expired. */
  get token() { return read("token"); },
  set token(value) { write("token", value); },

  /** Kept after the token has expired, for the sign-in form. */
  get nickname() { return read("nickname"); },
  set nickname(value) { write("nickname", value); },

  /** Received from the server. The app does not parse the token. */
  get userId() { return read("user_id"); },
  set userId(value) { write("user_id", value); },

  draftOf(channelId) { return (read("drafts") ?? {})[channelId] ?? ""; },
  setDraft(channelId, text) {
    const { [channelId]: _, ...drafts } = read("drafts") ?? {};
    if (text) drafts[channelId] = text;
    try {
      write("drafts", Object.keys(drafts).length ? drafts : null);
    } catch {
      // Browsers store some megabytes. A longer draft is kept in its field only.
    }
  },
  clearDrafts() { write("drafts", null); },

  /** Messages that the server has not confirmed. */
  get outbox() { return read("outbox") ?? []; },
  set outbox(value) { write("outbox", value.length ? value : null); },

  clear() {
    for (const name of ["token", "nickname", "user_id", "drafts", "outbox"]) write(name, null);
  },
};
