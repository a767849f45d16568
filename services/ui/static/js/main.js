// Flack in the browser. This file connects the modules. Read it first, then state.js, socket.js and outbox.js.
//
//   api.js      the REST API                      view-*.js   one part of the page each
//   socket.js   the websocket connection          message.js  the elements of a message
//   outbox.js   messages not yet confirmed        reading.js  read and unread messages
//   outbox-store.js  where they are stored        limit.js    the length of a message
//   lists.js    loading a list, and again         session.js  the user, the same in all tabs
//   channels.js channels, and which one is open   deleting.js deleting messages, with undo
//   pages.js    pages of messages                 dom.js      elements; the only place that inserts HTML
//   state.js    the state of this window          time.js     times as text
//   threads.js  the open thread                   rows.js     lists of messages
//   pins.js     pinned messages                   composer.js a field for a new message
//   reactions.js  reactions to messages           files.js    files of stored messages
//   attachments.js  files of a new message        preview.js  a new message as it will be
//   channel-names.js  names of channels           markdown-bar.js  buttons that insert Markdown
//   mention-list.js  people, by their names      photos.js   photos, before they are attached
//   typing.js   who is typing
//
// Loaded when they are first used: search.js, interests.js, and scenes.js (the drawer "behind the scenes"). Files of
// their own: theme-first.js (the theme before the first paint) and heartbeat.js (a worker with a timer).

import * as api from "./api.js";
import { forgetAttachments } from "./attachments.js";
import { closeChannels, handleChannel, handleDeleted, handleMember } from "./channels.js";
import { loadChannels, loadMembers, openChannels, showAddressed } from "./channels.js";
import { deleteWaiting, openDeleting } from "./deleting.js";
import { byId, heartbeat, openDialogs, openToolbars } from "./dom.js";
import { load, openLists, stopLists } from "./lists.js";
import { deleteOutbox, forgetOutbox, handleOwnMessage, handlePosted, handleProblem } from "./outbox.js";
import { handleSocketClosed, openOutbox, resend } from "./outbox.js";
import { handleUnread, openReading } from "./reading.js";
import { isSameUser, onSessionChangedElsewhere, session } from "./session.js";
import { Connection } from "./socket.js";
import { applyMessage, applyProfiles, applyUser, applyUsers, changed, clearUserState } from "./state.js";
import { setConnection, state } from "./state.js";
import { handleTyping, openTyping } from "./typing.js";
import { openChannelView } from "./view-channel.js";
import { openChannelsView } from "./view-channels.js";
import { clearDraft, focusComposer, openComposerView } from "./view-composer.js";
import { openConnectionView } from "./view-connection.js";
import { openInterestsView } from "./view-interests.js";
import { openMessagesView, readingId, showNewMessagesButton } from "./view-messages.js";
import { openNewChannelView } from "./view-new-channel.js";
import { isChangingPassword, openPasswordView } from "./view-password.js";
import { openPickerView } from "./view-picker.js";
import { openPeopleView, refresh as refreshPeople } from "./view-people.js";
import { openProfileView } from "./view-profile.js";
import { openScenesView } from "./view-scenes.js";
import { closeSearch, openSearchView } from "./view-search.js";
import { forgetInterests, loadPreferences, openSettingsView } from "./view-settings.js";
import { hideSignIn, openSignInView, showSignIn } from "./view-sign-in.js";
import { openSwitcherView } from "./view-switcher.js";
import { openThreadView } from "./view-thread.js";

const connection = new Connection({
  token: () => session.token,
  frame: handleFrame,
  phase: (phase) => {
    if (phase.phase !== "online") handleSocketClosed();
    setConnection(phase);
  },
});

openOutbox(connection);
openSignInView(signedIn);
openLists();
openMessagesView();
openComposerView();
openThreadView();
openTyping(connection);
openPickerView();
openProfileView();
openToolbars();
openChannels();
openChannelsView();
openChannelView();
openNewChannelView();
openSwitcherView();
openDialogs();
openDeleting();
openPeopleView();
openConnectionView(connection);
openSettingsView();
openScenesView();
openSearchView();
openInterestsView();
openPasswordView({ changed: signedIn, refused: handleTokenExpired });
openReading();
api.onTokenRefused(handleTokenRefused);
onSessionChangedElsewhere(followSession);
byId("sign-out").addEventListener("click", signOut);
heartbeat().onmessage = pingUser;

if (session.token) enter();
else showSignIn();

function signedIn({ nickname, token, userId }) {
  // Another user in the same browser must not see the previous user's draft or outbox.
  const isOther = session.nickname !== null && !isSameUser(session.nickname, nickname);
  if (isOther) {
    clearUser();
    deleteOutbox();
  }
  session.signIn({ nickname, token, userId: userId ?? (isOther ? null : session.userId) });
  enter();
}

/** Does what another tab did: it has signed in or out, its token has expired, or it has a new one. */
function followSession(before) {
  if (!isSameUser(before.nickname, session.nickname)) clearUser();
  if (session.token && session.token !== before.token) {
    hideSignIn();
    enter();
  } else if (!session.nickname) {
    byId("chat").hidden = true;
    showSignIn();
  } else if (!session.token && !isChangingPassword()) showSignIn({ overChat: true });
}

function enter() {
  byId("chat").hidden = false;
  changed("session");
  showAddressed();
  if (connection.isOpen || state.connection.phase !== "stopped") connection.restartWithoutCursor();
  else connection.start();
  loadPreferences();
  focusComposer();
}

// Ignores frames of unknown types, which a newer server may send.
function handleFrame(frame) {
  switch (frame.type) {
    case "welcome":
      if (frame.user_id) session.userId = frame.user_id;
      setConnection({ ...state.connection, instance: frame.instance });
      changed("session");
      // When the session is resumed, the server sends everything after the cursor.
      if (!frame.resumed) {
        load("users", api.listUsers, applyUsers);
        loadProfiles();
        loadChannels(readingId);
      } else loadMembers();
      refreshPeople();
      resend();
      pingUser();
      break;
    case "updated_model":
      handleModel(frame);
      break;
    case "posted":
      handlePosted(frame);
      break;
    case "problem":
      // A problem without an id answers the hello frame.
      if (!frame.id && frame.status === 401) handleTokenRefused(connection.token);
      else handleProblem(frame);
      break;
    case "typing":
      handleTyping(frame);
      break;
    case "expired_token":
      handleTokenRefused(connection.token);
      break;
  }
}

async function loadProfiles() {
  const known = new Map(state.profiles);
  try {
    applyProfiles(await api.listProfiles(), known);
  } catch {
    // Without them, nicknames are shown. The next connection tries again.
  }
}

function handleModel({ class: modelClass, model }) {
  if (modelClass === "User") applyUser(model);
  else if (modelClass === "Channel") handleChannel(model);
  else if (modelClass === "Member") handleMember(model);
  else if (modelClass === "Message") handleMessage(api.messageFrom(model));
}

function handleMessage(message) {
  const isOpen = message.channel_id === state.channelId;
  const isNew = applyMessage(message);
  if (state.typing.delete(message.user_id)) changed("typing");
  if (message.deleted_at) handleDeleted(message);
  else if (!isNew) return;
  else if (message.user_id === session.userId) handleOwnMessage(message);
  else if (message.thread_id) handleUnread(message);
  // Before the list has been loaded, every message is new to this window.
  else if (!isOpen || state.loaded.messages) {
    if (isOpen) showNewMessagesButton();
    handleUnread(message);
  }
}

/** Keeps the user online. The server sets users offline after 60 s without a ping. */
function pingUser() {
  if (session.token && !connection.send({ type: "ping_user" })) api.setMeOnline(session.token).catch(() => {});
}

// A refusal of the previous token may arrive after a new sign-in, also of another tab.
function handleTokenRefused(token) {
  if (token === session.token) handleTokenExpired();
}

function handleTokenExpired() {
  if (!session.token || isChangingPassword()) return;
  session.token = null;
  showSignIn({ overChat: true });
}

async function signOut() {
  const { token } = session;
  deleteWaiting();
  clearUser();
  deleteOutbox();
  session.clear();
  byId("chat").hidden = true;
  let note = "";
  try {
    await api.setMeOffline(token);
    await api.revokeToken(token);
  } catch (problem) {
    // 401: the token has already expired.
    if (problem.status !== 401) {
      note = "You are signed out in this browser. The server did not answer; your token expires within an hour.";
    }
  }
  showSignIn({ note });
}

function clearUser() {
  connection.stop();
  stopLists();
  clearDraft();
  session.clearDrafts();
  forgetAttachments();
  forgetOutbox();
  forgetInterests();
  closeSearch();
  // Their paths have what was searched for.
  api.calls.length = 0;
  closeChannels();
  clearUserState();
}
