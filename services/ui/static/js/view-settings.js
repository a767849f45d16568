// The user's preferences: theme and notifications. Stored with the account. The theme is also stored in this browser,
// for the time before the sign-in.

import * as api from "./api.js";
import { byId, setIcon } from "./dom.js";
import { session } from "./session.js";

const THEMES = ["system", "light", "dark"];

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
    const allowed = wanted && (await globalThis.Notification?.requestPermission()) === "granted";
    change({ ...preferences, notifications: allowed });
  });
  show();
}

/** Loads the preferences of the account after the sign-in. */
export async function loadPreferences() {
  try {
    preferences = await api.getPreferences(session.token);
    show();
  } catch {
    // The theme of this browser stays. Preferences are not essential.
  }
}

async function change(next) {
  preferences = next;
  show();
  try {
    if (session.token) await api.setPreferences(session.token, preferences);
  } catch {
    // Kept in this window; the next change tries again.
  }
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
