// Buttons and shortcuts that insert Markdown into a field. The browser's undo takes it back.

import { element, icon, toolbar } from "./dom.js";

// With Ctrl or Cmd. `code` is the key's place on the keyboard: with Shift, other characters are on it.
const FORMATS = [
  { name: "bold", label: "Bold", code: "KeyB", keys: "B", apply: (field) => wrap(field, "**") },
  { name: "italic", label: "Italic", code: "KeyI", keys: "I", apply: (field) => wrap(field, "*") },
  { name: "code", label: "Code", code: "KeyE", keys: "E", apply: insertCode },
  { name: "link", label: "Link", code: "KeyL", isShifted: true, keys: "Shift+L", apply: insertLink },
  { name: "list", label: "List", code: "Digit8", isShifted: true, keys: "Shift+8", apply: insertList },
];

export function openMarkdownBar(place, field) {
  place.append(toolbar("Formatting", "format", FORMATS.map(({ name, label, keys, apply }) => element("button", {
    type: "button", title: `${label} (Ctrl+${keys})`, "aria-label": label, "aria-keyshortcuts": `Control+${keys}`,
    onclick: () => apply(field),
  }, icon(name)))));
  field.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const format = FORMATS.find(({ code, isShifted = false }) => code === event.code && isShifted === event.shiftKey);
    if (!format) return;
    event.preventDefault();
    format.apply(field);
  });
}

/** Replaces a part of the text, so that it can be undone, and selects a part of what is inserted. */
export function replaceText(field, [start, end], text, from = text.length, to = from) {
  field.focus();
  field.setSelectionRange(start, end);
  // The only way that keeps the browser's undo. It also causes the event `input`.
  document.execCommand("insertText", false, text);
  field.setSelectionRange(start + from, start + to);
}

const selectionOf = ({ selectionStart: start, selectionEnd: end, value }) =>
  ({ range: [start, end], selected: value.slice(start, end) });

function wrap(field, before, after = before) {
  const { range, selected } = selectionOf(field);
  replaceText(field, range, before + selected + after, before.length, before.length + selected.length);
}

function insertCode(field) {
  if (selectionOf(field).selected.includes("\n")) wrap(field, "```\n", "\n```");
  else wrap(field, "`");
}

function insertLink(field) {
  const { range, selected } = selectionOf(field);
  const address = "https://";
  const text = `[${selected}](${address})`;
  // Next, the address is typed, or the text without one.
  if (selected) replaceText(field, range, text, text.length - 1 - address.length, text.length - 1);
  else replaceText(field, range, text, 1);
}

function insertList(field) {
  const { value, selectionStart, selectionEnd } = field;
  const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
  replaceText(field, [start, selectionEnd], value.slice(start, selectionEnd).replace(/^/gm, "- "));
}
