// Times as text, in the browser's language and time zone.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { style: "short" });

export const clockTime = (seconds) => clock.format(seconds * 1000);

export const fullTime = (seconds) => full.format(seconds * 1000);

/** The same text for all times of a day. */
export const dayKey = (seconds) => new Date(seconds * 1000).toDateString();

export function dayName(seconds) {
  const day = dayKey(seconds);
  if (day === new Date().toDateString()) return "Today";
  // At noon a change of daylight saving time cannot change the day.
  const yesterday = new Date();
  yesterday.setHours(12);
  yesterday.setDate(yesterday.getDate() - 1);
  return day === yesterday.toDateString() ? "Yesterday" : date.format(seconds * 1000);
}

/** Within a sentence: "at 12:04", or with the day. */
export function momentName(seconds) {
  const time = `at ${clockTime(seconds)}`;
  return dayKey(seconds) === dayKey(Date.now() / 1000) ? time : `${dayName(seconds)} ${time}`;
}

export function timeAgo(seconds) {
  const minutes = Math.floor((Date.now() / 1000 - seconds) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return ago.format(-minutes, "minute");
  if (minutes < 24 * 60) return ago.format(-Math.floor(minutes / 60), "hour");
  return ago.format(-Math.floor(minutes / (24 * 60)), "day");
}
