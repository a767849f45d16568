// The list of users: online and offline.

import * as api from "./api.js";
import { avatar, byId, element } from "./dom.js";
import { session } from "./session.js";
import { on, shownNameOf, state } from "./state.js";
import { timeAgo } from "./time.js";

// Only the users who were online most recently are shown; an old chat has thousands.
const OFFLINE_SHOWN_MAX = 100;
// For "5 min ago" and the server's request rate, while the window is visible.
const REFRESH_INTERVAL_MS = 15_000;

export function openPeopleView() {
  on(["users", "session"], show);
  setInterval(() => document.hidden || refresh(), REFRESH_INTERVAL_MS);
}

export function refresh() {
  show();
  if (session.token) showStats();
}

function show() {
  const byName = (a, b) => shownNameOf(a.id).localeCompare(shownNameOf(b.id));
  const users = [...state.users.values()];
  const online = users.filter((user) => user.online).sort(byName);
  const offline = users.filter((user) => !user.online).sort((a, b) => b.last_seen_at - a.last_seen_at);

  const focusedId = document.activeElement?.closest(".person")?.dataset.userId;
  byId("here").replaceChildren(...online.map(person));
  byId("away").replaceChildren(...offline.slice(0, OFFLINE_SHOWN_MAX).map(person));
  const again = focusedId && document.querySelector(`.person[data-user-id="${focusedId}"] button`);
  again?.focus({ preventScroll: true });
  // Before the list has been loaded, its number is unknown, not 0.
  const count = state.loaded.users ? online.length : "–";
  byId("here-count").textContent = count;
  byId("here-loading").hidden = state.loaded.users || users.length > 0;
  byId("away-count").textContent = offline.length;
  byId("away-section").hidden = offline.length === 0;
}

function person(user) {
  const isMe = user.id === session.userId;
  return element("li", { className: "person", "data-user-id": user.id, "data-online": user.online },
    avatar(user.id, shownNameOf(user.id)),
    element("button", {
      type: "button", className: "person-name", title: `@${user.nickname}`, "data-author-id": user.id,
    }, shownNameOf(user.id)),
    isMe ? element("span", { className: "person-note" }, "you") : null,
    user.online ? null : element("span", { className: "person-note" }, timeAgo(user.last_seen_at)));
}

async function showStats() {
  try {
    const { requests_per_second: rate } = await api.getStats();
    byId("stats").textContent = `${rate.toFixed(rate < 10 ? 1 : 0)} requests/s`;
  } catch {
    // The rate is not essential.
    byId("stats").textContent = "";
  }
}
