// Times as people say them, in the browser's own language and zone.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { style: "short" });

export const clockTime = (seconds) => clock.format(seconds * 1000);

export const fullTime = (seconds) => full.format(seconds * 1000);

/** A name for the day that is the same for all moments of it. */
export const dayKey = (seconds) => new Date(seconds * 1000).toDateString();

export function dayName(seconds) {
  const day = dayKey(seconds);
  if (day === new Date().toDateString()) return "Today";
  // Noon, so that the hour that clocks skip or repeat in a year cannot move the day.
  const yesterday = new Date();
  yesterday.setHours(12);
  yesterday.setDate(yesterday.getDate() - 1);
  return day === yesterday.toDateString() ? "Yesterday" : date.format(seconds * 1000);
}

export function timeAgo(seconds) {
  const minutes = Math.floor((Date.now() / 1000 - seconds) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return ago.format(-minutes, "minute");
  if (minutes < 24 * 60) return ago.format(-Math.floor(minutes / 60), "hour");
  return ago.format(-Math.floor(minutes / (24 * 60)), "day");
}
