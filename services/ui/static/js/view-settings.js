// How somebody wants the app: colours and notifications. Stored with the account, and the colours in this browser
// too, so that they are right before anybody has signed in.

import * as api from "./api.js";
import { byId, setIcon } from "./dom.js";
import { session } from "./session.js";

const THEMES = ["system", "light", "dark"];
const THEME_TEXT = { system: "as the system", light: "light", dark: "dark" };

let preferences = { theme: document.documentElement.dataset.theme, notifications: false };

export const wantsNotifications = () => preferences.notifications && globalThis.Notification?.permission === "granted";

export function openSettingsView() {
  byId("theme").addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(preferences.theme) + 1) % THEMES.length];
    change({ ...preferences, theme });
  });
  byId("notifications").addEventListener("click", async () => {
    const wanted = !wantsNotifications();
    // Browsers ask only when somebody has just pressed something.
    const allowed = wanted && (await globalThis.Notification?.requestPermission()) === "granted";
    change({ ...preferences, notifications: allowed });
  });
  show();
}

/** The account's choice, once somebody has signed in. */
export async function loadPreferences() {
  try {
    preferences = await api.getPreferences(session.token);
    show();
  } catch {
    // Looks alone do not hold up a chat: it stays as this browser has it.
  }
}

async function change(next) {
  preferences = next;
  show();
  try {
    if (session.token) await api.setPreferences(session.token, preferences);
  } catch {
    // Kept here for now; the next change tries again.
  }
}

function show() {
  const { theme } = preferences;
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("flack.theme", theme);
  setIcon(byId("theme"), `theme-${theme}`);
  byId("theme").title = byId("theme-text").textContent = `Colours: ${THEME_TEXT[theme]}`;

  const isOn = wantsNotifications();
  setIcon(byId("notifications"), isOn ? "bell" : "bell-off");
  byId("notifications").setAttribute("aria-pressed", String(isOn));
  byId("notifications").title = `Notifications are ${isOn ? "on" : "off"}`;
}
