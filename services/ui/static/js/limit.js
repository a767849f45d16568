// The limit for the length of a message, for the composer and the editor. Fields accept a longer text, because a text
// that was cut would be sent without its end; it is refused instead, and kept.

// The server has the same limit. It counts characters (code points), as Array.from does.
const LENGTH_MAX = 8192;
/** From this length on, the number of characters left is shown. */
const LENGTH_SHOWN_FROM = 7500;

const characters = (count) => `${count.toLocaleString()} ${count === 1 ? "character" : "characters"}`;

/** Shows how many characters are left or too many. Returns whether the text can be sent. */
export function checkLength(field, note) {
  const source = field.value.trim();
  // A character has one or two units of `length`.
  const length = source.length < LENGTH_SHOWN_FROM ? source.length : Array.from(source).length;
  const excess = length - LENGTH_MAX;
  const isTooLong = excess > 0;
  let text = "";
  if (isTooLong) text = `${characters(excess)} too many`;
  else if (length >= LENGTH_SHOWN_FROM) text = `${characters(-excess)} left`;
  note.textContent = text;
  note.classList.toggle("is-problem", isTooLong);
  field.setAttribute("aria-invalid", String(isTooLong));
  return !isTooLong;
}
