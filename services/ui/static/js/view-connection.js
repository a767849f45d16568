// Whether what is shown is live: always in the bar, and with a way out above the messages when it lasts.

import { byId } from "./dom.js";
import { on, state } from "./state.js";

const COUNT_EVERY_MS = 250;
// A connection that is back at once is not worth a banner that moves everything.
const TROUBLE_SHOWN_AFTER_MS = 1_200;

let troubleSince = null;

export function openConnectionView(connection) {
  byId("trouble-retry").addEventListener("click", () => connection.retryNow());
  on(["connection"], show);
  setInterval(() => state.connection.phase === "online" || show(), COUNT_EVERY_MS);
}

function show() {
  const { phase, retryAt } = state.connection;
  if (phase === "online" || phase === "stopped") troubleSince = null;
  else troubleSince ??= Date.now();

  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  const [short, long] = {
    online: ["Live", ""],
    connecting: ["Connecting…", "Connecting…"],
    waiting: ["Reconnecting…", navigator.onLine
      ? `The connection was lost. Next try in ${seconds} s. What you write is kept and sent.`
      : "This device is offline. What you write is kept and sent."],
    stopped: ["Not connected", ""],
  }[phase];

  byId("connection").dataset.phase = phase;
  // Only when it differs: a screen reader would read it out four times a second.
  setText("connection-text", short);
  byId("trouble").hidden = troubleSince === null || Date.now() - troubleSince < TROUBLE_SHOWN_AFTER_MS;
  byId("trouble-retry").hidden = phase !== "waiting";
  setText("trouble-text", long);
}

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}
