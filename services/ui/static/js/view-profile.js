// A person: opened from the author of a message, and from a mention.

import { writeTo } from "./channels.js";
import { avatar, byId } from "./dom.js";
import { session } from "./session.js";
import { on, state } from "./state.js";
import { timeAgo } from "./time.js";
import { showNotice } from "./view-settings.js";

const dialog = byId("profile");

let userId = null;

export function openProfileView() {
  addEventListener("click", ({ target }) => {
    const { authorId, userId: mentionedId } = target.closest?.("[data-author-id], mark[data-user-id]")?.dataset ?? {};
    const id = Number(authorId ?? mentionedId);
    if (state.users.has(id)) open(id);
  });
  on(["users"], () => dialog.open && show());
  byId("profile-write").addEventListener("click", async () => {
    dialog.close();
    try {
      await writeTo(userId);
    } catch (problem) {
      showNotice(problem.message);
    }
  });
}

function open(id) {
  userId = id;
  show();
  dialog.showModal();
}

function show() {
  const { nickname, online, last_seen_at: lastSeen } = state.users.get(userId);
  byId("profile-avatar").replaceChildren(avatar(userId, nickname));
  byId("profile-name").textContent = nickname;
  byId("profile-status").textContent = online ? "Online" : `Offline, seen ${timeAgo(lastSeen)}`;
  byId("profile-write").hidden = userId === session.userId;
}
