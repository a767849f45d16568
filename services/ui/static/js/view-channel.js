// The open channel: its head above the messages, the dialog with its members and settings, and what is shown instead of
// the composer where the user cannot post.

import * as api from "./api.js";
import { nameOf, titleOf } from "./channel-names.js";
import { join, leave } from "./channels.js";
import { avatar, byId, element, insertSanitizedHtml, onSubmit } from "./dom.js";
import { fileNames } from "./files.js";
import { session } from "./session.js";
import { applyChannel, nicknameOf, on, openChannel, state } from "./state.js";
import { fullTime } from "./time.js";
import { sign } from "./view-channels.js";
import { goToMessage } from "./view-messages.js";
import { showNotice } from "./view-settings.js";
import { goToReply } from "./view-thread.js";

const dialog = byId("details");
const confirmation = byId("confirmation");

/** What the confirmation is about: {id, apply}. */
let asked = null;

export function openChannelView() {
  on(["channel", "channels", "members", "users", "session"], show);
  on(["channel"], () => dialog.close());
  byId("details-open").addEventListener("click", () => {
    closeConfirmation();
    byId("topic-form").reset();
    byId("invite-form").reset();
    showDetails();
    showPins();
    byId("topic-edit").value = openChannel().topic;
    dialog.showModal();
  });
  byId("leave").addEventListener("click", () => confirmLeave(openChannel()));
  byId("archive").addEventListener("click", () => changeArchived(openChannel()));
  byId("confirmation-go").addEventListener("click", async () => {
    const { apply } = asked;
    closeConfirmation();
    if (await succeeds(apply)) dialog.close();
  });
  byId("confirmation-cancel").addEventListener("click", closeConfirmation);
  onSubmit(byId("topic-form"), async ({ topic }) =>
    applyChannel(await api.updateChannel(session.token, state.channelId, { topic: topic.value.trim() })));
  onSubmit(byId("invite-form"), async ({ person }) => {
    const user = [...state.users.values()].find(({ nickname }) => nickname === person.value.trim());
    if (!user) throw new Error("There is no user with this nickname.");
    await api.addMember(session.token, state.channelId, user.id);
    // For the next person.
    person.value = "";
    return false;
  });
  byId("no-post-go").addEventListener("click", () => {
    const { id, member } = openChannel();
    succeeds(() => (member ? setArchived(id, false) : join(id)));
  });
}

const setArchived = async (id, archived) => applyChannel(await api.updateChannel(session.token, id, { archived }));

function changeArchived(channel) {
  const { id, archived_at: archivedAt } = channel;
  if (archivedAt) return succeeds(() => setArchived(id, false));
  ask(`Archive ${titleOf(channel)}? Nobody can post to it until a member uses it again.`, "Archive",
    () => setArchived(id, true));
}

function confirmLeave(channel) {
  const consequence = channel.kind === "private" ? "Only a member can invite you again." : "You can join it again.";
  ask(`Leave ${titleOf(channel)}? ${consequence}`, "Leave", () => leave(channel.id));
}

function ask(question, answer, apply) {
  asked = { apply };
  byId("confirmation-text").textContent = question;
  byId("confirmation-go").textContent = answer;
  confirmation.hidden = false;
  byId("confirmation-cancel").focus();
}

function closeConfirmation() {
  confirmation.hidden = true;
}

async function succeeds(change) {
  try {
    await change();
    return true;
  } catch (problem) {
    showNotice(problem.message);
    return false;
  }
}

function show() {
  const channel = openChannel();
  byId("head").hidden = !channel;
  if (!channel) return;
  byId("head-sign").replaceChildren(sign(channel));
  byId("head-name").textContent = nameOf(channel);
  byId("head-topic").textContent = channel.topic;
  const count = memberCount(channel);
  byId("members-count").textContent = count === null ? "Members" : `${count} ${count === 1 ? "member" : "members"}`;
  byId("log").setAttribute("aria-label", `Messages in ${titleOf(channel)}`);
  showCannotPost(channel);
  if (dialog.open) showDetails();
}

/** Null while it is not loaded. */
function memberCount({ id, user_ids: userIds }) {
  if (id === api.GENERAL_ID) return state.loaded.users ? state.users.size : null;
  return state.members?.size ?? userIds?.length ?? null;
}

function showCannotPost({ name, member, archived_at: archivedAt }) {
  // Before the list of channels is loaded, it is not known.
  const isStranger = state.loaded.channels && !member;
  byId("no-post").hidden = !isStranger && !archivedAt;
  byId("foot").hidden = isStranger || Boolean(archivedAt);
  byId("no-post-text").textContent = isStranger ? `You are not a member of #${name}.` : "This channel is archived.";
  byId("no-post-go").textContent = isStranger ? "Join" : "Use it again";
  byId("no-post-go").hidden = isStranger && Boolean(archivedAt);
}

function showDetails() {
  const channel = openChannel();
  if (!channel) return dialog.close();
  const isMember = Boolean(channel.member);
  const isDirect = channel.kind === "direct";
  const isPermanent = isDirect || channel.id === api.GENERAL_ID;
  byId("details-heading").textContent = titleOf(channel);
  byId("topic-form").hidden = !isMember || isDirect;
  byId("invite-form").hidden = !isMember || isPermanent;
  byId("leave").hidden = !isMember || isPermanent;
  byId("archive").hidden = !isMember || isPermanent;
  byId("archive").textContent = channel.archived_at ? "Use it again" : "Archive";
  byId("members-note").hidden = channel.id !== api.GENERAL_ID;
  const ids = state.members ? [...state.members.keys()] : channel.user_ids ?? [];
  const members = ids.map((id) => ({ id, nickname: nicknameOf(id, state.members?.get(id)?.nickname) }));
  members.sort((a, b) => a.nickname.localeCompare(b.nickname));
  byId("members").replaceChildren(...members.map(({ id, nickname }) =>
    element("li", { className: "person" }, avatar(id, nickname),
      element("span", { className: "person-name" }, nickname),
      id === session.userId ? element("span", { className: "person-note" }, "you") : null)));
  const others = [...state.users.values()].filter(({ id }) => !ids.includes(id));
  byId("people-names").replaceChildren(...others.map(({ nickname }) => element("option", { value: nickname })));
}

async function showPins() {
  const { channelId: id } = state;
  byId("pins-section").hidden = true;
  // Without an answer the list is not shown. The next opening tries again.
  const pins = await api.listPins(session.token, id).catch(() => []);
  if (id !== state.channelId) return;
  byId("pins-section").hidden = pins.length === 0;
  byId("pins").replaceChildren(...pins.map((message) => {
    const author = nicknameOf(message.user_id, message.nickname);
    const rendered = element("div");
    insertSanitizedHtml(rendered, message.html);
    const text = element("span", { className: "pin-text" }, rendered.textContent.trim() || fileNames(message));
    return element("li", {}, element("button", {
      type: "button", className: "pin-link", onclick: () => goToPin(message),
    }, element("span", { className: "choice-note" }, `${author}, ${fullTime(message.created_at)}`), text));
  }));
}

function goToPin(message) {
  dialog.close();
  if (message.thread_id) goToReply(openChannel(), message.thread_id, message.id);
  else goToMessage(message);
}
