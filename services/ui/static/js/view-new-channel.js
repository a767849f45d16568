// The dialogs that lead to a channel in which the user is not yet: a list of public ones, a new one, a direct one.

import { addressOf } from "./channel-names.js";
import { create, goTo, join } from "./channels.js";
import { avatar, byId, element, onSubmit } from "./dom.js";
import { session } from "./session.js";
import { on, state } from "./state.js";
import { withInterests } from "./view-interests.js";
import { showNotice } from "./view-settings.js";

// The server's limit is 8 people with the user.
const PEOPLE_CHOSEN_MAX = 7;
const PEOPLE_SHOWN_MAX = 50;

/** What the list of public channels was created from. */
let shownStamp = null;
/** The ids of the chosen people. */
const chosen = new Set();

export function openNewChannelView() {
  on(["channels"], () => byId("browse").open && showBrowse());
  byId("browse-open").addEventListener("click", () => {
    showBrowse();
    byId("suggested").hidden = true;
    withInterests((module) => module.suggest(byId("suggested"), { addressOf, join: joinFrom }));
    byId("browse").showModal();
  });
  byId("new-channel-open").addEventListener("click", () => {
    byId("new-channel-form").reset();
    byId("new-channel").showModal();
  });
  byId("new-direct-open").addEventListener("click", () => {
    byId("new-direct-form").reset();
    chosen.clear();
    showPeople();
    byId("new-direct").showModal();
  });
  byId("people-filter").addEventListener("input", showPeople);
  // Enter in the filter chooses a person; the button sends.
  byId("people-filter").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("people-choice").querySelector("input:not(:checked):not(:disabled)")?.click();
  });
  onSubmit(byId("new-channel-form"), ({ kind, name, topic }) =>
    create({ kind: kind.value, name: name.value.trim(), topic: topic.value.trim() }));
  onSubmit(byId("new-direct-form"), async () => {
    if (chosen.size === 0) throw new Error("Choose one person or more.");
    await create({ kind: "direct", user_ids: [...chosen] });
  });
}

function showBrowse() {
  const others = [...state.channels.values()].filter(({ kind, member, archived_at: archivedAt }) =>
    kind === "public" && !member && !archivedAt && state.loaded.channels);
  others.sort((a, b) => a.name.localeCompare(b.name));
  // A click needs the same button from its begin to its end.
  const stamp = JSON.stringify(others.map(({ name, topic }) => [name, topic]));
  if (stamp === shownStamp) return;
  shownStamp = stamp;
  byId("browse-none").hidden = others.length > 0;
  byId("browse-list").replaceChildren(...others.map((channel) => element("li", { className: "choice-row" },
    element("span", { className: "choice-text" },
      element("a", { className: "choice-name", href: addressOf(channel), "data-close": "" }, `#${channel.name}`),
      element("span", { className: "choice-note" }, channel.topic)),
    element("button", {
      type: "button", className: "small", "aria-label": `Join #${channel.name}`, onclick: () => joinFrom(channel),
    }, "Join"))));
}

async function joinFrom(channel) {
  byId("browse").close();
  try {
    await join(channel.id);
    goTo(channel);
  } catch (problem) {
    showNotice(problem.message);
  }
}

function showPeople() {
  const filter = byId("people-filter").value.trim().toLowerCase();
  const isShown = ({ id, nickname }) =>
    id !== session.userId && (chosen.has(id) || nickname.toLowerCase().includes(filter));
  const people = [...state.users.values()].filter(isShown);
  people.sort((a, b) => chosen.has(b.id) - chosen.has(a.id) || a.nickname.localeCompare(b.nickname));
  byId("people-choice").replaceChildren(...people.slice(0, PEOPLE_SHOWN_MAX).map(({ id, nickname }) => {
    const isChosen = chosen.has(id);
    const box = element("input", {
      type: "checkbox", checked: isChosen, disabled: !isChosen && chosen.size >= PEOPLE_CHOSEN_MAX,
      onchange: () => choose(id),
    });
    return element("li", {}, element("label", { className: "person" }, box, avatar(id, nickname),
      element("span", { className: "person-name" }, nickname)));
  }));
}

function choose(id) {
  if (!chosen.delete(id)) chosen.add(id);
  byId("people-filter").value = "";
  showPeople();
  byId("people-filter").focus();
}
