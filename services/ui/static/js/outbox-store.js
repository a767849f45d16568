// The stored entries of the outbox, in IndexedDB: all tabs of this browser share them, and they survive the end of a
// tab. Keys grow in the order in which messages were written. Entries are stored as they are, with members that this
// version does not know. Every function fails where the browser refuses IndexedDB, as some do in private windows.

const NAME = "flack";
const VERSION = 1;
const ENTRIES = "outbox";
/** The queues: by user, channel and status; the first entry of a queue is the oldest. */
const QUEUES = "queues";

let database = null;

export async function openStore() {
  database = await new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const entries = request.result.createObjectStore(ENTRIES, { keyPath: "order", autoIncrement: true });
      entries.createIndex(QUEUES, ["owner", "channel_id", "status"]);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  // A later version of the app, in another tab, changes the database.
  database.onversionchange = () => database.close();
}

/** Returns the key of the new entry, which is then stored. */
export const addEntry = (entry) => run("readwrite", (entries) => entries.add(entry));

export const putEntry = (entry) => run("readwrite", (entries) => entries.put(entry));

export const removeEntry = (order) => run("readwrite", (entries) => entries.delete(order));

export const clearEntries = () => run("readwrite", (entries) => entries.clear());

export const listEntries = () => run("readonly", (entries) => entries.getAll());

/** Returns the oldest entry of a queue, or undefined. */
export const firstEntry = (owner, channelId, status) =>
  run("readonly", (entries) => entries.index(QUEUES).get([owner, channelId, status]));

function run(mode, act) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(ENTRIES, mode);
    const request = act(transaction.objectStore(ENTRIES));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
