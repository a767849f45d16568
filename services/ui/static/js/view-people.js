// Who is here, and who was.

import * as api from "./api.js";
import { avatar, byId, element } from "./dom.js";
import { session } from "./session.js";
import { on, state } from "./state.js";
import { timeAgo } from "./time.js";

// Who has been away longest is not shown; a chat that has been there for a year would list thousands.
const AWAY_SHOWN_MAX = 100;
// "5 min ago" and the server's rate, while somebody looks.
const REFRESH_EVERY_MS = 15_000;

const panel = byId("people");
const toggle = byId("people-toggle");

export function openPeopleView() {
  on(["users", "session"], show);
  toggle.addEventListener("click", () => setPanelOpen(!panel.classList.contains("is-open")));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.classList.contains("is-open")) {
      setPanelOpen(false);
      toggle.focus();
    }
  });
  // On a phone the panel lies over the messages; touching those closes it.
  byId("scroller").addEventListener("pointerdown", () => setPanelOpen(false));
  setInterval(() => document.hidden || refresh(), REFRESH_EVERY_MS);
}

export function refresh() {
  show();
  if (session.token) showStats();
}

function setPanelOpen(isOpen) {
  panel.classList.toggle("is-open", isOpen);
  toggle.setAttribute("aria-expanded", String(isOpen));
}

function show() {
  const byName = (a, b) => a.nickname.localeCompare(b.nickname);
  const users = [...state.users.values()];
  const here = users.filter(({ online }) => online).sort(byName);
  const away = users.filter(({ online }) => !online).sort((a, b) => b.last_seen_at - a.last_seen_at);

  byId("here").replaceChildren(...here.map(person));
  byId("away").replaceChildren(...away.slice(0, AWAY_SHOWN_MAX).map(person));
  byId("here-count").textContent = here.length;
  byId("away-count").textContent = away.length;
  byId("away-section").hidden = away.length === 0;
  byId("people-toggle-count").textContent = here.length;
}

function person(user) {
  const isMe = user.id === session.userId;
  return element("li", { className: "person", "data-user-id": user.id, "data-online": user.online },
    avatar(user.id, user.nickname),
    element("span", { className: "person-name" }, user.nickname),
    isMe ? element("span", { className: "person-note" }, "you") : null,
    user.online ? null : element("span", { className: "person-note" }, timeAgo(user.last_seen_at)));
}

async function showStats() {
  try {
    const { requests_per_second: rate } = await api.getStats();
    byId("stats").textContent = `${rate.toFixed(rate < 10 ? 1 : 0)} requests/s`;
  } catch {
    // An ornament: when it cannot be had, nothing is missing.
    byId("stats").textContent = "";
  }
}
