// The list of the user's channels. On a phone it is a drawer over the messages.

import { addressOf, nameOf, othersIn } from "./channel-names.js";
import { channelsOf, shownCount } from "./channels.js";
import { avatar, byId, element, icon } from "./dom.js";
import { on, state } from "./state.js";

const drawer = byId("side");
const toggle = byId("side-toggle");
const rest = [byId("talk"), byId("thread")];
/** Channel id to {element, stamp} of its item. The stamp has everything that the element was created from. */
const items = new Map();
const phone = matchMedia("(max-width: 46rem)");

export function openChannelsView() {
  on(["channels", "channel", "users", "session", "outbox"], show);
  on(["channel"], () => setDrawerOpen(false));
  toggle.addEventListener("click", () => setDrawerOpen(!isDrawerOpen()));
  byId("side-shade").addEventListener("click", () => setDrawerOpen(false));
  drawer.addEventListener("click", ({ target }) => target.closest("a, button") && setDrawerOpen(false));
  addEventListener("keydown", (event) => event.key === "Escape" && setDrawerOpen(false));
  // A wide window always shows the list.
  phone.addEventListener("change", () => setDrawerOpen(false));
}

const isDrawerOpen = () => drawer.classList.contains("is-open");

// The focus goes into the drawer and comes back. Meanwhile nothing else can get it.
function setDrawerOpen(isOpen) {
  if (isOpen === isDrawerOpen()) return;
  drawer.classList.toggle("is-open", isOpen);
  toggle.setAttribute("aria-expanded", String(isOpen));
  for (const part of rest) part.inert = isOpen;
  byId("side-shade").hidden = !isOpen;
  if (isOpen) (drawer.querySelector("[aria-current]") ?? drawer.querySelector("a, button")).focus();
  else if (drawer.contains(document.activeElement)) toggle.focus();
}

function show() {
  const channels = channelsOf(false);
  const direct = channelsOf(true);
  showItems(byId("channels"), channels);
  showItems(byId("direct"), direct);
  byId("direct-none").hidden = direct.length > 0;
  const isUnread = ({ id, member }) => (member?.unread > 0 || member?.mentions > 0) && id !== state.channelId;
  const hasUnread = [...channels, ...direct].some(isUnread);
  byId("side-unread").hidden = !hasUnread;
}

// Changes only the items that differ: a click needs the same element from its begin to its end.
function showItems(list, channels) {
  const next = channels.map((channel) => {
    const { unread = 0, mentions = 0 } = channel.member ?? {};
    const hasFailed = state.outbox.some(({ channel_id: id, status }) => id === channel.id && status === "refused");
    const isOpen = channel.id === state.channelId;
    const isOnline = state.users.get(othersIn(channel)[0])?.online;
    const stamp = JSON.stringify([addressOf(channel), nameOf(channel), unread, mentions, hasFailed, isOpen, isOnline]);
    const old = items.get(channel.id);
    if (old?.stamp === stamp) return old.element;
    const created = item(channel, { unread, mentions, hasFailed, isOpen });
    const hadFocus = old?.element.contains(document.activeElement);
    old?.element.replaceWith(created);
    if (hadFocus) created.firstElementChild.focus();
    items.set(channel.id, { element: created, stamp });
    return created;
  });
  for (const shown of [...list.children]) if (!next.includes(shown)) shown.remove();
  next.forEach((wanted, index) => {
    if (list.children[index] !== wanted) list.insertBefore(wanted, list.children[index] ?? null);
  });
}

function item(channel, { unread, mentions, hasFailed, isOpen }) {
  const badgeWith = (text, meaning, name = "") =>
    element("span", { className: `badge ${name}` }, text, element("span", { className: "unseen" }, meaning));
  let badge = unread > 0 ? badgeWith(shownCount(unread), " unread") : null;
  const mentioned = mentions > 0 ? badgeWith(`@${shownCount(mentions)}`, " mentions of you", "is-mention") : null;
  if (hasFailed) badge = badgeWith("!", " A message was not sent");
  const link = element("a", { className: "channel", href: addressOf(channel), "data-channel-id": channel.id },
    sign(channel), element("span", { className: "channel-name" }, nameOf(channel)), badge, mentioned);
  if (isOpen) link.setAttribute("aria-current", "page");
  return element("li", { className: unread > 0 || mentions > 0 ? "is-unread" : "" }, link);
}

/** What is before the name: `#`, a lock, or the first of the other people. */
export function sign(channel) {
  if (channel.kind === "private") {
    const lock = icon("lock");
    return element("span", { className: "channel-sign" }, lock, element("span", { className: "unseen" }, "private "));
  }
  if (channel.kind === "public") return element("span", { className: "channel-sign", "aria-hidden": "true" }, "#");
  const [first] = othersIn(channel);
  const created = avatar(first ?? 0, nameOf(channel));
  if (state.users.get(first)?.online) created.dataset.online = "true";
  return created;
}
