// The outbox: own messages that are not yet confirmed. They are shown at once and sent one at a time in each channel,
// so that their order is kept: over the socket when it is open, else by REST. Every message has an id that is used as
// its idempotency key. Sending it again, over either transport, by another tab and after a reload, never creates a
// second message.
//
// The outbox belongs to all tabs. A message is sent after it was stored (outbox-store.js), by the tab that holds the
// lock of its channel. When this tab is closed or crashes, the browser gives the lock to another tab, which continues
// with the oldest stored message. Tabs report what they change on a broadcast channel.

import * as api from "./api.js";
import { attach, attachmentsOf, FILES_MAX } from "./attachments.js";
import { addEntry, clearEntries, firstEntry, listEntries, openStore, putEntry, removeEntry } from "./outbox-store.js";
import { isSameUser, moveEarlierSession, session } from "./session.js";
import { applyMessage, changed, draftKey, isPlaceOpen, messageOf, on, state } from "./state.js";
import { showNotice } from "./view-settings.js";

// How long to wait for the socket's answer before REST is used with the same id.
const SOCKET_TIMEOUT_MS = 4_000;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 5_000;
const NOT_STORED =
  "This browser stores nothing for this site. What is not sent when the last tab of Flack is closed, is lost.";

let connection;
/** Whether entries are stored. Otherwise the tabs only have them in memory. */
let isStoring = true;
/** Fulfilled when the stored entries are in the state. */
let loaded;
/** The requests on the socket that wait for their answers, by message: {posted, refused}. */
const pending = new Map();
/** The channels whose messages this tab sends, or waits to send, and those that it has to look at again. */
const sending = new Set();
const wanted = new Set();
/** Functions that end the pauses before the next attempts. */
const pauses = new Set();
const tabs = new BroadcastChannel("flack.outbox");

export function openOutbox(theConnection) {
  connection = theConnection;
  loaded = load();
  tabs.onmessage = ({ data }) => loaded.then(() => receive(data));
  on(["messages", "thread"], dropShown);
}

/** Another user's entries are neither shown nor sent. */
const owner = () => session.nickname?.toLowerCase();

async function load() {
  const earlier = moveEarlierSession();
  const stored = await attempt(async () => {
    await openStore();
    return listEntries();
  });
  for (const entry of stored ?? []) if (isSameUser(entry.owner, session.nickname)) insert(entry);
  for (const entry of earlier) {
    // The first version of the app had only `general`.
    await add(insert({ channel_id: api.GENERAL_ID, ...entry, owner: owner(), status: "waiting" }));
  }
  changed("outbox");
  sendWaiting();
}

/** `more`: further members of the entry: `thread_id`, and `files` with {id, name, blob}. */
export async function post(channelId, source, more = {}) {
  const entry = insert({
    ...more,
    id: crypto.randomUUID(),
    owner: owner(),
    channel_id: channelId,
    source,
    created_at: Date.now() / 1000,
    status: "waiting",
  });
  changed("outbox");
  await loaded;
  await add(entry);
  sendWaitingIn(channelId);
}

export async function retry(id) {
  const entry = find(id);
  if (!entry) return;
  await change(entry, { status: "waiting" });
  sendWaitingIn(entry.channel_id);
}

export function discard(id) {
  const entry = find(id);
  if (!entry) return;
  drop(entry);
  unstore(entry);
  tabs.postMessage({ ...shared(entry), isDiscarded: true });
  // The next one does not wait for the pause of this one.
  endPauses();
}

/** Moves the text and the files of a refused message back to the draft of its channel or thread. */
export function edit(id) {
  const entry = find(id);
  if (!entry) return;
  const { files = [] } = entry;
  const key = draftKey(entry);
  if (attachmentsOf(key).length + files.length > FILES_MAX) {
    return showNotice(`A message has at most ${FILES_MAX} files. Remove some from your draft first.`);
  }
  discard(id);
  session.setDraft(key, [entry.source, session.draftOf(key)].filter(Boolean).join("\n"));
  showNotice(attach(key, files));
  changed("draft");
}

/** Called at a sign-out in any tab. */
export function forgetOutbox() {
  state.outbox = [];
  changed("outbox");
}

/** Called at a sign-out in this tab. */
export function deleteOutbox() {
  forgetOutbox();
  attempt(clearEntries);
}

/** Sends at once after a welcome frame, in whichever tab. Browsers slow down the timers of hidden tabs. */
export async function resend() {
  endPauses();
  tabs.postMessage({ isOnline: true });
  await loaded;
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
    ?? state.outbox.find((candidate) => candidate.status === "sending" && !candidate.messageId
      && ["channel_id", "thread_id", "source"].every((member) => candidate[member] === message[member]));
  if (!entry) return;
  entry.shownAs = message.id;
  dropIfShown(entry);
  changed("outbox");
}

const find = (id) => state.outbox.find((entry) => entry.id === id);

/** Whether the user has discarded an entry, or has signed out. */
const isGone = (entry) => !state.outbox.includes(entry);

/** Inserts an entry in the order of the queue. Those that are not stored yet are the last ones. */
function insert(entry) {
  state.outbox.push(entry);
  state.outbox.sort((a, b) => (a.order ?? Infinity) - (b.order ?? Infinity));
  return entry;
}

function drop(entry) {
  state.outbox = state.outbox.filter((other) => other !== entry);
  changed("outbox");
}

// A sent entry is shown until its message arrives. Another channel or thread is loaded when it is opened.
function dropIfShown(entry) {
  const { status, messageId, shownAs } = entry;
  const isShown = shownAs === messageId || messageOf(messageId) || !isPlaceOpen(entry);
  if (status === "sent" && isShown) drop(entry);
}

// A confirmed message may arrive in a page, too.
function dropShown() {
  for (const entry of state.outbox) dropIfShown(entry);
}

/** What is the same in all tabs. */
function shared({ shownAs, ...entry }) {
  return entry;
}

/** Changes an entry in this tab, in the store if `status` is one that is stored, and in the other tabs. */
async function change(entry, changes) {
  Object.assign(entry, changes);
  changed("outbox");
  const { isDelayed, uploading, ...stored } = shared(entry);
  if (entry.status === "sent") await unstore(entry);
  else if (changes.status && entry.status !== "sending") await attempt(() => putEntry(stored));
  tabs.postMessage(shared(entry));
}

async function add(entry) {
  const { order: _, ...stored } = shared(entry);
  entry.order = await attempt(() => addEntry(stored));
  tabs.postMessage(shared(entry));
}

// In memory, entries have no order.
const unstore = ({ order }) => attempt(() => order && removeEntry(order));

/** Receives an entry that another tab has added or changed, or that another tab is online. */
function receive({ isOnline, isDiscarded, ...entry }) {
  if (isOnline) return endPauses();
  if (entry.owner !== owner()) return;
  const known = find(entry.id);
  if (isDiscarded) {
    if (known) drop(known);
    return endPauses();
  }
  const current = known ? Object.assign(known, entry) : insert(entry);
  dropIfShown(current);
  changed("outbox");
  // Also while the other tab sends it: this tab then waits for the lock.
  if (["waiting", "sending"].includes(entry.status)) sendWaitingIn(entry.channel_id);
}

/** Returns what `act` returns, while entries are stored. After a failure the outbox continues in memory. */
async function attempt(act) {
  if (!isStoring) return undefined;
  try {
    return await act();
  } catch (problem) {
    console.warn("The outbox is not stored.", problem);
    isStoring = false;
    showNotice(NOT_STORED);
    return undefined;
  }
}

function sendWaiting() {
  for (const channelId of new Set(state.outbox.map(({ channel_id: id }) => id))) sendWaitingIn(channelId);
}

async function sendWaitingIn(channelId) {
  wanted.add(channelId);
  if (sending.has(channelId)) return;
  sending.add(channelId);
  while (wanted.delete(channelId)) {
    await navigator.locks.request(`flack.outbox.${channelId}`, async () => {
      let entry;
      do entry = session.token && (await nextIn(channelId));
      while (entry && (await send(entry)));
    });
  }
  sending.delete(channelId);
}

/** Returns the oldest message that waits, whichever tab has written it. */
async function nextIn(channelId) {
  const stored = await attempt(() => firstEntry(owner(), channelId, "waiting"));
  if (isStoring) return stored && (find(stored.id) ?? insert(stored));
  return state.outbox.find(({ channel_id: id, status }) => id === channelId && ["waiting", "sending"].includes(status));
}

/**
 * Tries until the server accepts or refuses the message, or the user discards it. Returns false if it waits for the
 * next token.
 */
async function send(entry) {
  change(entry, { status: "sending" });
  for (let failures = 0; !isGone(entry); failures += 1) {
    try {
      const message = await messageOfEntry(entry);
      if (isGone(entry)) return true;
      const postedId = await sendBySocket(entry, message);
      // Another user may have signed in meanwhile.
      if (isGone(entry)) return true;
      const messageId = postedId ?? (await sendByRest(entry, message));
      await change(entry, { status: "sent", messageId });
      dropIfShown(entry);
      return true;
    } catch (problem) {
      if (isGone(entry)) return true;
      if (problem.status === 401) {
        await change(entry, { status: "waiting" });
        return false;
      }
      if (!problem.isTransient) {
        await change(entry, { status: "refused", problem: problem.message });
        entry.shownAs = undefined;
        return true;
      }
      change(entry, { isDelayed: true });
      await pause(Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures) * (0.5 + Math.random() / 2));
    }
  }
  return true;
}

/**
 * Stores the files of an entry, and returns what is sent; null if the entry is gone meanwhile. A file that is stored
 * already is not stored again, because its id is the idempotency key. The server deletes it when no message has it
 * after an hour.
 */
async function messageOfEntry(entry) {
  const { channel_id: channelId, source, thread_id: threadId, files = [] } = entry;
  const fileIds = [];
  for (const [index, file] of files.entries()) {
    if (isGone(entry)) return null;
    change(entry, { uploading: index + 1 });
    fileIds.push((await api.createFile(session.token, channelId, file)).id);
  }
  if (isGone(entry)) return null;
  if (files.length > 0) change(entry, { uploading: undefined });
  return { source, thread_id: threadId, file_ids: files.length > 0 ? fileIds : undefined };
}

/** Returns the message's id, or null when the socket is closed or does not answer in time. */
async function sendBySocket({ id, channel_id: channelId }, message) {
  if (!connection.send({ type: "post_message", id, channel_id: channelId, ...message })) return null;
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

async function sendByRest({ id, channel_id: channelId }, { source, ...more }) {
  // Only the frame has an empty source.
  const message = await api.createMessage(session.token, channelId, { ...more, source: source || undefined }, id);
  applyMessage(message);
  return message.id;
}

const pause = (ms) => new Promise((resolve) => {
  pauses.add(resolve);
  setTimeout(() => pauses.delete(resolve) && resolve(), ms);
});

function endPauses() {
  for (const end of pauses) end();
  pauses.clear();
}
