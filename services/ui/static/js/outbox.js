// The outbox: own messages that are not yet confirmed. They are shown at once and sent one at a time, so that their
// order is kept: over the socket when it is open, else by REST. Every message has an id that is used as its idempotency
// key. Sending it again, over either transport and after a page reload, never creates a second message.

import * as api from "./api.js";
import { session } from "./session.js";
import { applyModel, changed, CHANNEL, state } from "./state.js";

// How long to wait for the socket's answer before REST is used with the same id.
const SOCKET_TIMEOUT_MS = 4_000;
const ATTEMPTS_MAX = 6;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 5_000;

let connection;
/** The request on the socket that waits for its answer: {id, posted, refused}. */
let pending = null;
let isSending = false;
let endPause = () => {};

export function openOutbox(theConnection) {
  connection = theConnection;
  state.outbox = session.outbox.map((entry) =>
    ({ ...entry, shownAs: undefined, status: entry.status === "failed" ? "failed" : "waiting" }));
}

export function post(source) {
  state.outbox.push({ id: crypto.randomUUID(), source, created_at: Date.now() / 1000, status: "waiting" });
  saveOutbox();
  sendWaiting();
}

export function retry(id) {
  const entry = state.outbox.find((candidate) => candidate.id === id);
  if (!entry) return;
  entry.status = "waiting";
  saveOutbox();
  sendWaiting();
}

export function discard(id) {
  state.outbox = state.outbox.filter((entry) => entry.id !== id);
  saveOutbox();
}

/** Sends at once after a welcome frame. Messages with a transient failure are sent again. */
export function resend() {
  for (const entry of state.outbox) if (entry.status === "failed" && entry.isTransient) entry.status = "waiting";
  endPause();
  sendWaiting();
}

export function handlePosted({ id, message_id: messageId }) {
  if (pending?.id === id) pending.posted(messageId);
}

export function handleProblem({ id, status, detail }) {
  if (!id || pending?.id !== id) return;
  // The connection may have an older token than the session: REST uses the current one.
  if (status === 401) pending.posted(null);
  else pending.refused(new api.Problem(status, detail));
}

export function handleSocketClosed() {
  pending?.posted(null);
}

/**
 * Hides the entry of an own message that has arrived. The event may arrive before the answer. Then an entry with the
 * same source is hidden, so that the text is not shown twice.
 */
export function handleOwnMessage(message) {
  const entry = state.outbox.find(({ messageId }) => messageId === message.id)
    ?? state.outbox.find(({ source, status, messageId }) =>
      source === message.source && status === "sending" && !messageId);
  if (!entry) return;
  entry.shownAs = message.id;
  if (entry.status === "sent") discard(entry.id);
}

async function sendWaiting() {
  if (isSending) return;
  isSending = true;
  let entry;
  while (session.token && (entry = state.outbox.find(({ status }) => status === "waiting"))) await send(entry);
  isSending = false;
}

async function send(entry) {
  entry.status = "sending";
  saveOutbox();
  for (let attempt = 1; ; attempt += 1) {
    try {
      confirm(entry, (await sendBySocket(entry)) ?? (await sendByRest(entry)));
      return;
    } catch (problem) {
      if (problem.status === 401) {
        // The message waits for the next token.
        entry.status = "waiting";
        return;
      }
      const { isTransient, message } = problem;
      if (!isTransient || attempt === ATTEMPTS_MAX) {
        Object.assign(entry, { status: "failed", problem: message, isTransient, shownAs: undefined });
        saveOutbox();
        return;
      }
      await pause(Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2));
    }
  }
}

/** Returns the message's id, or null when the socket is closed or does not answer in time. */
async function sendBySocket({ id, source }) {
  if (!connection.send({ type: "post_message", id, channel: CHANNEL, source })) return null;
  let timer;
  try {
    return await new Promise((posted, refused) => {
      pending = { id, posted, refused };
      timer = setTimeout(() => {
        posted(null);
        // The connection may be dead: a new one is opened.
        connection.restart();
      }, SOCKET_TIMEOUT_MS);
    });
  } finally {
    clearTimeout(timer);
    pending = null;
  }
}

async function sendByRest(entry) {
  const message = await api.createMessage(session.token, entry.source, entry.id);
  applyModel("Message", message);
  return message.id;
}

// The entry is shown until the event with the message arrives.
function confirm(entry, messageId) {
  Object.assign(entry, { status: "sent", messageId });
  if (state.messages.has(messageId)) state.outbox = state.outbox.filter((other) => other !== entry);
  saveOutbox();
}

function saveOutbox() {
  session.outbox = state.outbox.filter(({ status }) => status !== "sent");
  changed("outbox");
}

const pause = (ms) => new Promise((resolve) => {
  endPause = resolve;
  setTimeout(resolve, ms);
});
