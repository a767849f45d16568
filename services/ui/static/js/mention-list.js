// The list of people that `@` opens in a field. The field has the focus, and is a combobox as long as the list is open.

import { element } from "./dom.js";
import { replaceText } from "./markdown-bar.js";
import { session } from "./session.js";
import { nicknameOf, openChannel, shownNameOf, state } from "./state.js";

const OPTIONS_SHOWN_MAX = 8;
/** An `@` before the caret that begins a word, and what follows it. */
const MENTION = /(?:^|[\s(])@([^\s@]*)$/;
/** The server's name for all members of a channel. */
const EVERYONE = { name: "channel", names: ["channel"], note: "everybody here" };

/** People as options, without the user, those online first. `names`: what they are found by, in lower case. */
export function peopleOptions(ids) {
  const people = ids.filter((id) => id !== session.userId).map((id) => {
    const nickname = state.members?.get(id)?.nickname;
    const [name, shown] = [nicknameOf(id, nickname), shownNameOf(id, nickname)];
    const isOnline = Boolean(state.users.get(id)?.online);
    const status = isOnline ? "online" : "offline";
    const names = [name, shown].map((text) => text.toLowerCase());
    return { id, name, shown, names, isOnline, note: shown === name ? status : `${shown}, ${status}` };
  });
  return people.sort((a, b) => b.isOnline - a.isOnline || a.shown.localeCompare(b.shown));
}

/** The options that have a text in one of their names, those with a name that begins with it first. */
export function matching(options, text) {
  const filter = text.toLowerCase();
  const rank = ({ names }) => (names.some((name) => name.startsWith(filter)) ? 0 : 1);
  const found = options.filter(({ names }) => names.some((name) => name.includes(filter)));
  return found.sort((a, b) => rank(a) - rank(b));
}

export function openMentionList(field) {
  const id = `${field.id}-mentions`;
  const list = element("div", { className: "mention-list", role: "listbox", "aria-label": "People", id, hidden: true });
  field.form.append(list);
  /** What is shown: {name, note}. */
  let options = [];
  let selected = 0;
  /** How long the text after the `@` is. */
  let length = 0;

  function show() {
    const { selectionStart: caret, selectionEnd: end, value } = field;
    const typed = caret === end && value.slice(0, caret).match(MENTION);
    const previous = options[selected]?.name;
    options = typed ? optionsFor(typed[1]) : [];
    length = typed ? typed[1].length : 0;
    selected = Math.max(0, options.findIndex(({ name }) => name === previous));
    if (options.length === 0) return close();
    list.replaceChildren(...options.map(({ name, note }, index) => element("div", {
      id: `${id}-${index}`, role: "option", className: "option", onclick: () => choose(index),
      // The field keeps the focus.
      onmousedown: (event) => event.preventDefault(),
    }, element("span", {}, `@${name}`), element("span", { className: "choice-note" }, note))));
    list.hidden = false;
    const attributes = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "true", "aria-controls": id };
    for (const [name, text] of Object.entries(attributes)) field.setAttribute(name, text);
    showSelected();
  }

  function showSelected() {
    [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === selected)));
    list.children[selected].scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", list.children[selected].id);
  }

  function close() {
    options = [];
    list.hidden = true;
    const names = ["role", "aria-autocomplete", "aria-expanded", "aria-controls", "aria-activedescendant"];
    for (const name of names) field.removeAttribute(name);
  }

  function choose(index) {
    const { name } = options[index];
    const caret = field.selectionStart;
    close();
    replaceText(field, [caret - length, caret], `${name} `);
  }

  field.addEventListener("input", show);
  field.addEventListener("click", show);
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (options.length === 0 || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      selected = (selected + step + options.length) % options.length;
      showSelected();
    } else if (["Enter", "Tab"].includes(event.key) && !event.shiftKey) choose(selected);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    // Neither sends the text nor closes the thread.
    event.stopImmediatePropagation();
  });
}

function optionsFor(typed) {
  const { kind, user_ids: userIds } = openChannel() ?? {};
  // Only people who can see the channel can be mentioned.
  const ids = kind === "public" ? [...state.users.keys()] : [...(state.members?.keys() ?? userIds ?? [])];
  const found = matching([...peopleOptions(ids), EVERYONE], typed);
  // A name that is complete needs no list, so that Enter sends.
  if (found.length === 1 && found[0].name === typed) return [];
  return found.slice(0, OPTIONS_SHOWN_MAX);
}
