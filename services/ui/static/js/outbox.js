// The outbox: own messages that are not yet confirmed. They are shown at once and sent one at a time in each channel,
// so that their order is kept: over the socket when it is open, else by REST. Every message has an id that is used as
// its idempotency key. Sending it again, over either transport and after a page reload, never creates a second message.

import * as api from "./api.js";
import { session } from "./session.js";
import { applyMessage, changed, on, state } from "./state.js";

// How long to wait for the socket's answer before REST is used with the same id.
const SOCKET_TIMEOUT_MS = 4_000;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 5_000;

let connection;
/** The requests on the socket that wait for their answers, by message: {posted, refused}. */
const pending = new Map();
/** The channels in which a message is being sent. */
const sending = new Set();
/** Functions that end the pauses before the next attempts. */
const pauses = new Set();

export function openOutbox(theConnection) {
  connection = theConnection;
  // An earlier version of the app had only `general`.
  state.outbox = session.outbox.map(({ channel_id: channelId = api.GENERAL_ID, ...entry }) => {
    const status = entry.status === "failed" ? "failed" : "waiting";
    return { ...entry, channel_id: channelId, shownAs: undefined, isDelayed: false, status };
  });
  on(["messages"], discardShown);
}

export function post(channelId, source) {
  const entry = { id: crypto.randomUUID(), channel_id: channelId, source, created_at: Date.now() / 1000 };
  state.outbox.push({ ...entry, status: "waiting" });
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
  // The next one does not wait for the pause of this one.
  endPauses();
}

// A confirmed message may arrive in a page, too.
function discardShown() {
  const outbox = state.outbox.filter(({ messageId }) => !state.messages.has(messageId));
  if (outbox.length === state.outbox.length) return;
  state.outbox = outbox;
  saveOutbox();
}

/** Sends at once after a welcome frame. */
export function resend() {
  endPauses();
  sendWaiting();
}

export function handlePosted({ id, message_id: messageId }) {
  pending.get(id)?.posted(messageId);
}

export function handleProblem({ id, status, detail }) {
  // The connection may have an older token than the session: REST uses the current one.
  if (status === 401) pending.get(id)?.posted(null);
  else pending.get(id)?.refused(new api.Problem(status, detail));
}

export function handleSocketClosed() {
  for (const { posted } of pending.values()) posted(null);
}

/**
 * Hides the entry of an own message that has arrived. The event may arrive before the answer. Then an entry with the
 * same source is hidden, so that the text is not shown twice.
 */
export function handleOwnMessage(message) {
  const entry = state.outbox.find(({ messageId }) => messageId === message.id)
    ?? state.outbox.find(({ channel_id: channelId, source, status, messageId }) =>
      channelId === message.channel_id && source === message.source && status === "sending" && !messageId);
  if (!entry) return;
  entry.shownAs = message.id;
  if (entry.status === "sent") discard(entry.id);
}

function sendWaiting() {
  for (const channelId of new Set(state.outbox.map(({ channel_id: id }) => id))) sendWaitingIn(channelId);
}

async function sendWaitingIn(channelId) {
  if (sending.has(channelId)) return;
  sending.add(channelId);
  const isNext = ({ channel_id: id, status }) => id === channelId && status === "waiting";
  let entry;
  while (session.token && (entry = state.outbox.find(isNext))) await send(entry);
  sending.delete(channelId);
}

// Tries until the server accepts or refuses the message, or the user discards it.
async function send(entry) {
  entry.status = "sending";
  saveOutbox();
  for (let failures = 0; state.outbox.includes(entry); failures += 1) {
    try {
      confirm(entry, (await sendBySocket(entry)) ?? (await sendByRest(entry)));
      return;
    } catch (problem) {
      if (problem.status === 401) {
        // The message waits for the next token.
        entry.status = "waiting";
        return;
      }
      if (!problem.isTransient) {
        Object.assign(entry, { status: "failed", problem: problem.message, shownAs: undefined });
        saveOutbox();
        return;
      }
      entry.isDelayed = true;
      changed("outbox");
      await pause(Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures) * (0.5 + Math.random() / 2));
    }
  }
}

/** Returns the message's id, or null when the socket is closed or does not answer in time. */
async function sendBySocket({ id, channel_id: channelId, source }) {
  if (!connection.send({ type: "post_message", id, channel_id: channelId, source })) return null;
  let timer;
  try {
    return await new Promise((posted, refused) => {
      pending.set(id, { posted, refused });
      timer = setTimeout(() => {
        posted(null);
        // The connection may be dead: a new one is opened.
        connection.restart();
      }, SOCKET_TIMEOUT_MS);
    });
  } finally {
    clearTimeout(timer);
    pending.delete(id);
  }
}

async function sendByRest(entry) {
  const message = await api.createMessage(session.token, entry.channel_id, entry.source, entry.id);
  applyMessage(message);
  return message.id;
}

// The entry is shown until the event with the message arrives. Another channel is loaded when it is opened.
function confirm(entry, messageId) {
  Object.assign(entry, { status: "sent", messageId });
  const isShown =
    entry.shownAs === messageId || state.messages.has(messageId) || entry.channel_id !== state.channelId;
  if (isShown) state.outbox = state.outbox.filter((other) => other !== entry);
  saveOutbox();
}

function saveOutbox() {
  session.outbox = state.outbox.filter(({ status }) => status !== "sent");
  changed("outbox");
}

const pause = (ms) => new Promise((resolve) => {
  pauses.add(resolve);
  setTimeout(() => pauses.delete(resolve) && resolve(), ms);
});

function endPauses() {
  for (const end of pauses) end();
  pauses.clear();
}
