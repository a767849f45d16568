// A person: opened from the author of a message, from a mention, and from the list of people. One's own profile can be
// changed there.

import * as api from "./api.js";
import { writeTo } from "./channels.js";
import { avatar, byId, onSubmit } from "./dom.js";
import { session } from "./session.js";
import { applyProfiles, hueOf, on, shownNameOf, state } from "./state.js";
import { timeAgo } from "./time.js";
import { showNotice } from "./view-settings.js";

const dialog = byId("profile");
const form = byId("profile-form");

let userId = null;

export function openProfileView() {
  addEventListener("click", ({ target }) => {
    const { authorId, userId: mentionedId } = target.closest?.("[data-author-id], mark[data-user-id]")?.dataset ?? {};
    const id = Number(authorId ?? mentionedId);
    if (state.users.has(id)) open(id);
  });
  // A mention is a button to the keyboard, too.
  addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(event.key) || !event.target.matches?.("mark[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });
  dialog.addEventListener("close", () => {
    // The list of people may have replaced the button that had the focus.
    if (document.activeElement !== document.body) return;
    document.querySelector(`.person[data-user-id="${userId}"] button`)?.focus();
  });
  on(["users"], () => dialog.open && show());
  byId("profile-edit").addEventListener("click", openForm);
  byId("profile-cancel").addEventListener("click", () => {
    closeForm();
    byId("profile-edit").focus();
  });
  form.addEventListener("input", showColour);
  onSubmit(form, async ({ name, about, own, hue }) => {
    // What is absent stays as it is: the profile may not be loaded.
    const change = {};
    if (name.value !== name.defaultValue) change.display_name = name.value.trim();
    if (about.value !== about.defaultValue) change.about = about.value.trim();
    if (own.checked !== own.defaultChecked || (own.checked && hue.value !== hue.defaultValue)) {
      change.hue = own.checked ? Number(hue.value) : -1;
    }
    applyProfiles([await api.updateProfile(session.token, userId, change)]);
    closeForm();
    byId("profile-edit").focus();
    return false;
  });
  byId("profile-write").addEventListener("click", async () => {
    dialog.close();
    try {
      await writeTo(userId);
    } catch (problem) {
      showNotice(problem.message);
    }
  });
}

function openForm() {
  const { display_name: name = "", about = "", hue } = state.profiles.get(userId) ?? {};
  form.elements.name.defaultValue = name;
  form.elements.about.defaultValue = about;
  form.elements.own.defaultChecked = hue !== undefined;
  form.elements.hue.defaultValue = hueOf(userId);
  form.reset();
  showColour();
  byId("profile-card").hidden = true;
  form.hidden = false;
  form.elements.name.focus();
}

function showColour() {
  const { own, hue } = form.elements;
  hue.disabled = !own.checked;
  const shown = avatar(userId, form.elements.name.value.trim() || state.users.get(userId).nickname);
  if (own.checked) shown.style.setProperty("--hue", hue.value);
  byId("profile-colour").replaceChildren(shown);
}

function closeForm() {
  form.hidden = true;
  byId("profile-card").hidden = false;
}

function open(id) {
  userId = id;
  closeForm();
  show();
  dialog.showModal();
}

function show() {
  const { nickname, online, last_seen_at: lastSeen } = state.users.get(userId);
  const name = shownNameOf(userId);
  byId("profile-avatar").replaceChildren(avatar(userId, name));
  byId("profile-name").textContent = name;
  byId("profile-nick").textContent = name === nickname ? "" : `@${nickname}`;
  const { about = "" } = state.profiles.get(userId) ?? {};
  byId("profile-about").textContent = about;
  byId("profile-about").hidden = !about;
  byId("profile-edit").hidden = userId !== session.userId || !session.token;
  byId("profile-status").textContent = online ? "Online" : `Offline, seen ${timeAgo(lastSeen)}`;
  byId("profile-write").hidden = userId === session.userId;
}
