// The switcher (Ctrl+K): channels and people by their names. And the list of shortcuts.

import { nameOf, othersIn, titleOf } from "./channel-names.js";
import { goTo, writeTo } from "./channels.js";
import { byId, element } from "./dom.js";
import { matching, peopleOptions } from "./mention-list.js";
import { session } from "./session.js";
import { state } from "./state.js";
import { showNotice } from "./view-settings.js";

const OPTIONS_SHOWN_MAX = 12;

const dialog = byId("switcher");
const input = byId("switcher-input");
const list = byId("switcher-list");

/** What is shown: {title, names, note, go}. */
let options = [];
let selected = 0;

export function openSwitcherView() {
  byId("switcher-open").addEventListener("click", open);
  byId("shortcuts-open").addEventListener("click", () => byId("shortcuts").showModal());
  input.addEventListener("input", () => {
    selected = 0;
    show();
  });
  input.addEventListener("keydown", handleKey);
  addEventListener("keydown", (event) => {
    if (!session.token || event.altKey) return;
    const isOverlaid = document.querySelector("dialog[open]") !== null;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!isOverlaid) open();
    } else if (event.key === "?" && !isOverlaid && !event.target.closest("input, textarea")) {
      byId("shortcuts").showModal();
    }
  });
}

function open() {
  input.value = "";
  selected = 0;
  show();
  dialog.showModal();
}

function handleKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && options.length > 0) selected = (selected + step + options.length) % options.length;
  else if (event.key === "Enter" && !event.isComposing) choose(options[selected]);
  else return;
  event.preventDefault();
  showSelected();
}

async function choose(option) {
  if (!option) return;
  dialog.close();
  try {
    await option.go();
    byId("draft").focus();
  } catch (problem) {
    showNotice(problem.message);
  }
}

function show() {
  // The order of equal ones is kept: unread channels, others, people.
  options = matching(all(), input.value.trim().replace(/^[#@]/, "")).slice(0, OPTIONS_SHOWN_MAX);
  list.replaceChildren(...options.map((option, index) => element("div", {
    id: `option-${index}`, role: "option", className: "option", onclick: () => choose(option),
  }, element("span", {}, option.title), element("span", { className: "choice-note" }, option.note))));
  byId("switcher-none").hidden = options.length > 0;
  showSelected();
}

function showSelected() {
  [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === selected)));
  const current = list.children[selected];
  current?.scrollIntoView({ block: "nearest" });
  if (current) input.setAttribute("aria-activedescendant", current.id);
  else input.removeAttribute("aria-activedescendant");
}

function all() {
  // A conversation of two is found by the other person.
  const isListed = (channel) => channel.kind !== "direct" || othersIn(channel).length > 1;
  const unread = ({ member }) => Number(member?.unread > 0);
  const channels = [...state.channels.values()].filter(isListed);
  channels.sort((a, b) => unread(b) - unread(a) || nameOf(a).localeCompare(nameOf(b)));
  const people = peopleOptions([...state.users.keys()]);
  const personOption = ({ id, name, ...person }) => ({ ...person, title: name, go: () => writeTo(id) });
  return [...channels.map(channelOption), ...people.map(personOption)];
}

function channelOption(channel) {
  const { kind, archived_at: archivedAt, member } = channel;
  const note = archivedAt ? "archived" : !member && state.loaded.channels ? "not joined" : kind;
  return { names: [nameOf(channel).toLowerCase()], title: titleOf(channel), note, go: () => goTo(channel) };
}
