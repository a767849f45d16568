// The outbox: what was said here and is not yet confirmed. Shown at once, sent one at a time so that the order
// is kept, by the socket when it is there and by REST when it is not. Every message has an id made here, and the
// server takes an id once: sending again, by either way and even after a reload, can never say something twice.

import * as api from "./api.js";
import { session } from "./session.js";
import { acceptModel, changed, CHANNEL, state } from "./state.js";

// How long the socket may take to answer before REST is tried with the same id.
const SOCKET_ANSWER_WAIT_MS = 4_000;
const ATTEMPTS_MAX = 6;
const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 5_000;

let connection;
/** The one message that is on its way over the socket: {id, posted, refused}. */
let expected = null;
let pumping = false;
let wake = () => {};

export function openOutbox(theConnection) {
  connection = theConnection;
  state.outbox = session.outbox.map((entry) => ({ ...entry, shownAs: undefined, status: entry.status === "failed" ? "failed" : "waiting" }));
}

export function say(source) {
  state.outbox.push({ id: crypto.randomUUID(), source, created_at: Date.now() / 1000, status: "waiting" });
  noteChange();
  pump();
}

/** The same message by the same id. */
export function retry(id) {
  const entry = find(id);
  if (!entry) return;
  entry.status = "waiting";
  noteChange();
  pump();
}

export function discard(id) {
  state.outbox = state.outbox.filter((entry) => entry.id !== id);
  noteChange();
}

/** Called when there is reason to hope: a welcome, a new token. What failed for lack of a server is tried again. */
export function flush() {
  for (const entry of state.outbox) if (entry.status === "failed" && entry.mayPass) entry.status = "waiting";
  wake();
  pump();
}

export function takePosted({ id, message_id: messageId }) {
  if (expected?.id === id) expected.posted(messageId);
}

export function takeProblem({ id, status, detail }) {
  if (!id || expected?.id !== id) return;
  // The connection may be older than our token: REST knows better.
  if (status === 401) expected.posted(null);
  else expected.refused(new api.Problem(status, detail));
}

/** The socket closed: whatever it was asked will not be answered by it. */
export function socketLost() {
  expected?.posted(null);
}

/**
 * A message of one's own has arrived. The server's event may be faster than its answer, and for that moment the text
 * would stand there twice: an entry with the same text gives way to it.
 */
export function arrived(message) {
  const entry = state.outbox.find(({ messageId }) => messageId === message.id)
    ?? state.outbox.find(({ source, status, messageId }) => source === message.source && status === "sending" && !messageId);
  if (!entry) return;
  entry.shownAs = message.id;
  if (entry.status === "sent") discard(entry.id);
}

async function pump() {
  if (pumping) return;
  pumping = true;
  let entry;
  while (session.token && (entry = state.outbox.find(({ status }) => status === "waiting"))) await deliver(entry);
  pumping = false;
}

async function deliver(entry) {
  entry.status = "sending";
  noteChange();
  for (let attempt = 1; ; attempt += 1) {
    try {
      settle(entry, (await overSocket(entry)) ?? (await overRest(entry)));
      return;
    } catch (problem) {
      if (problem.status === 401) {
        // Not the message's fault: it waits for the next token.
        entry.status = "waiting";
        return;
      }
      if (!problem.isPassing || attempt === ATTEMPTS_MAX) {
        Object.assign(entry, { status: "failed", problem: problem.message, mayPass: problem.isPassing, shownAs: undefined });
        noteChange();
        return;
      }
      await pause(Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2));
    }
  }
}

/** The message's id, or null when the socket is away or silent. */
async function overSocket(entry) {
  if (!connection.send({ type: "post_message", id: entry.id, channel: CHANNEL, source: entry.source })) return null;
  let silence;
  try {
    return await new Promise((posted, refused) => {
      expected = { id: entry.id, posted, refused };
      silence = setTimeout(() => {
        posted(null);
        // A socket that does not answer is as good as none; a fresh one says which it was.
        connection.restart();
      }, SOCKET_ANSWER_WAIT_MS);
    });
  } finally {
    clearTimeout(silence);
    expected = null;
  }
}

async function overRest(entry) {
  const message = await api.createMessage(session.token, entry.source, entry.id);
  acceptModel("Message", message);
  return message.id;
}

// Shown as sent until its event brings it as everybody sees it.
function settle(entry, messageId) {
  Object.assign(entry, { status: "sent", messageId });
  if (state.messages.has(messageId)) state.outbox = state.outbox.filter((other) => other !== entry);
  noteChange();
}

const find = (id) => state.outbox.find((entry) => entry.id === id);

function noteChange() {
  session.outbox = state.outbox.filter(({ status }) => status !== "sent");
  changed("outbox");
}

const pause = (ms) => new Promise((done) => {
  wake = done;
  setTimeout(done, ms);
});
