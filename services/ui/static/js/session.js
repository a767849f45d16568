// The session: whose window this is, and what must survive a reload of it.
//
// The token lies in sessionStorage, on purpose. It belongs to one window: two windows can be two people, and it is gone
// when the window is closed. A cookie would be sent with requests that other sites cause; localStorage would be
// shared by all windows and stay for ever. Scripts of others, which could read it, are kept out by the
// Content-Security-Policy, Trusted Types and HTML that was cleaned on the server.

const read = (name) => JSON.parse(sessionStorage.getItem(`flack.${name}`) ?? "null");

const write = (name, value) => {
  if (value === null || value === undefined) sessionStorage.removeItem(`flack.${name}`);
  else sessionStorage.setItem(`flack.${name}`, JSON.stringify(value));
};

export const session = {
  /** null when nobody is signed in, or when the token is no longer good. */
  get token() { return read("token"); },
  set token(value) { write("token", value); },

  /** Stays when the token ends, to say whose password is asked for. */
  get nickname() { return read("nickname"); },
  set nickname(value) { write("nickname", value); },

  /** Told by the server; the token itself is not ours to read. */
  get userId() { return read("user_id"); },
  set userId(value) { write("user_id", value); },

  get draft() { return read("draft") ?? ""; },
  set draft(value) { write("draft", value || null); },

  /** Messages that the server has not confirmed. Each has an id, so sending them again cannot double them. */
  get outbox() { return read("outbox") ?? []; },
  set outbox(value) { write("outbox", value.length ? value : null); },

  clear() {
    for (const name of ["token", "nickname", "user_id", "draft", "outbox"]) write(name, null);
  },
};
