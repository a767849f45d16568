// The user's preferences: theme, notifications and interests. Stored with the account. The theme is also stored in this
// browser, for the time before the sign-in.

import * as api from "./api.js";
import { byId, setIcon } from "./dom.js";
import { session } from "./session.js";
import { changed } from "./state.js";

const THEMES = ["system", "light", "dark"];

/** Why notifications stay off: by the browser's answer. */
const REFUSALS = {
  denied: "Notifications stay off: this browser blocks them for this site. Allow them in its site settings first.",
  default: "Notifications stay off: the browser's question was closed without an answer.",
  undefined: "Notifications stay off: this browser has none.",
};

let preferences = { theme: document.documentElement.dataset.theme, notifications: false };

export const wantsNotifications = () => preferences.notifications && globalThis.Notification?.permission === "granted";

export function openSettingsView() {
  byId("theme").addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(preferences.theme) + 1) % THEMES.length];
    change({ ...preferences, theme });
  });
  byId("notifications").addEventListener("click", async () => {
    const wanted = !wantsNotifications();
    // Browsers allow this request only after a click.
    const permission = wanted ? await globalThis.Notification?.requestPermission() : "not needed";
    showNotice(REFUSALS[permission] ?? "");
    if (!(permission in REFUSALS)) change({ ...preferences, notifications: wanted });
  });
  byId("notice-close").addEventListener("click", () => showNotice(""));
  show();
}

/** Loads the preferences of the account. Returns whether they are loaded; without them, those of this window stay. */
export async function loadPreferences() {
  const { token } = session;
  let loaded;
  try {
    loaded = await api.getPreferences(token);
  } catch {
    return false;
  }
  // Another user may have signed in meanwhile.
  if (token !== session.token) return false;
  const { interests: known } = preferences;
  preferences = loaded;
  // When they differ, all messages are compared again.
  if (JSON.stringify(loaded.interests) === JSON.stringify(known)) preferences.interests = known;
  else changed("preferences");
  show();
  return true;
}

/** Called at a sign-out. */
export function forgetInterests() {
  preferences = { ...preferences, interests: undefined };
  changed("preferences");
}

async function change(next) {
  preferences = next;
  show();
  try {
    // Without the interests, which another window may have changed: they stay as they are.
    if (session.token) await api.setPreferences(session.token, { ...preferences, interests: undefined });
  } catch {
    // Kept in this window; the next change tries again.
  }
}

/** What the user prefers to read: {words?, people?, topics?}. Undefined if nothing is set. */
export const interests = () => preferences.interests;

/** Fails if they are not stored. */
export async function setInterests(wanted) {
  await api.setPreferences(session.token, { ...preferences, interests: wanted });
  const isEmpty = Object.values(wanted).every((list) => list.length === 0);
  preferences = { ...preferences, interests: isEmpty ? undefined : wanted };
  changed("preferences");
}

export function showNotice(text) {
  byId("notice-text").textContent = text;
  byId("notice").hidden = !text;
}

function show() {
  const { theme } = preferences;
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("flack.theme", theme);
  setIcon(byId("theme"), `theme-${theme}`);
  byId("theme").title = byId("theme-text").textContent = `Theme: ${theme}`;

  const isOn = wantsNotifications();
  setIcon(byId("notifications"), isOn ? "bell" : "bell-off");
  byId("notifications").setAttribute("aria-pressed", String(isOn));
  byId("notifications").title = `Notifications are ${isOn ? "on" : "off"}`;
}
