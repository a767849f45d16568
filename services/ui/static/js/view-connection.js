// The status of the connection: always in the bar, and in a banner when it is lost for a longer time.

import { byId } from "./dom.js";
import { on, state } from "./state.js";

const COUNTDOWN_INTERVAL_MS = 250;
// The banner moves the messages, so it is not shown for a short reconnect.
const BANNER_DELAY_MS = 1_200;

let lostSince = null;

export function openConnectionView(connection) {
  byId("trouble-retry").addEventListener("click", () => connection.retryNow());
  on(["connection"], show);
  setInterval(() => state.connection.phase === "online" || show(), COUNTDOWN_INTERVAL_MS);
}

function show() {
  const { phase, retryAt } = state.connection;
  if (phase === "online" || phase === "stopped") lostSince = null;
  else lostSince ??= Date.now();

  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  const [short, long] = {
    online: ["Connected", ""],
    connecting: ["Connecting…", "Connecting…"],
    waiting: ["Reconnecting…", navigator.onLine
      ? `The connection is lost. Next attempt in ${seconds} s. Your messages are kept and sent later.`
      : "This device is offline. Your messages are kept and sent later."],
    stopped: ["Not connected", ""],
  }[phase];

  byId("connection").dataset.phase = phase;
  setText("connection-text", short);
  byId("trouble").hidden = lostSince === null || Date.now() - lostSince < BANNER_DELAY_MS;
  byId("trouble-retry").hidden = phase !== "waiting";
  setText("trouble-text", long);
}

// Screen readers read an element again when its text is set, so equal texts are not set.
function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}
