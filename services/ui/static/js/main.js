// Flack in the browser. This file connects the modules. Read it first, then state.js, socket.js and outbox.js.
//
//   api.js      the REST API                      view-*.js   one part of the page each
//   socket.js   the websocket connection          message.js  the elements of a message
//   outbox.js   messages not yet confirmed        reading.js  read and unread messages
//   session.js  what survives a page reload       dom.js      elements; the only place that inserts HTML
//   state.js    the state of this window          time.js     times as text

import * as api from "./api.js";
import { byId, heartbeat } from "./dom.js";
import { handleOwnMessage, handlePosted, handleProblem, handleSocketClosed, openOutbox, resend } from "./outbox.js";
import { countUnread, loadReadMarker, openReading, resetReading } from "./reading.js";
import { session } from "./session.js";
import { Connection } from "./socket.js";
import { applyLists, applyModel, beginReload, changed, setConnection, state } from "./state.js";
import { clearDraft, focusComposer, openComposerView, TYPING_SHOWN_MS } from "./view-composer.js";
import { openConnectionView } from "./view-connection.js";
import { openMessagesView, showNewMessagesButton } from "./view-messages.js";
import { isChangingPassword, openPasswordView } from "./view-password.js";
import { openPeopleView, refresh as refreshPeople } from "./view-people.js";
import { loadPreferences, openSettingsView } from "./view-settings.js";
import { openSignInView, showSignIn } from "./view-sign-in.js";

const RELOAD_PAUSE_MS = 2_000;

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
openMessagesView();
openComposerView(connection);
openPeopleView();
openConnectionView(connection);
openSettingsView();
openPasswordView({ changed: signedIn, refused: handleTokenExpired });
openReading();
// A refusal of the previous token may arrive after a new sign-in.
api.onTokenRefused((token) => token === session.token && handleTokenExpired());
byId("sign-out").addEventListener("click", signOut);
heartbeat().onmessage = pingUser;

if (session.token) enter();
else showSignIn();

function signedIn({ nickname, token, userId }) {
  // Another user in the same window must not see the previous user's draft or outbox.
  if (session.nickname && session.nickname.toLowerCase() !== nickname.toLowerCase()) clearUser();
  session.nickname = nickname;
  session.token = token;
  if (userId) session.userId = userId;
  enter();
}

function enter() {
  byId("chat").hidden = false;
  changed("session");
  if (connection.isOpen || state.connection.phase !== "stopped") connection.restart();
  else connection.start();
  loadPreferences();
  loadReadMarker();
  focusComposer();
}

// Ignores frames of unknown types, which a newer server may send.
function handleFrame(frame) {
  switch (frame.type) {
    case "welcome":
      if (frame.user_id) session.userId = frame.user_id;
      changed("session");
      // When the session is resumed, the server sends everything after the cursor.
      if (!frame.resumed) reload();
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
      if (!frame.id && frame.status === 401) handleTokenExpired();
      else handleProblem(frame);
      break;
    case "typing":
      showTyping(frame.user_id);
      break;
    case "expired_token":
      handleTokenExpired();
      break;
  }
}

function handleModel({ class: modelClass, model }) {
  const isNew = applyModel(modelClass, model);
  if (modelClass !== "Message") return;
  if (state.typing.delete(model.user_id)) changed("typing");
  if (!isNew) return;
  if (model.user_id === session.userId) handleOwnMessage(model);
  // Before the lists have been loaded, every message is new to this window.
  else if (state.loaded) {
    showNewMessagesButton();
    countUnread(model);
  }
}

// Called after the welcome frame. The socket delivers everything from then on, so there is no gap.
async function reload() {
  beginReload();
  try {
    const [users, messages] = await Promise.all([api.listUsers(), api.listMessages()]);
    applyLists(users, messages);
    refreshPeople();
  } catch {
    setTimeout(() => session.token && reload(), RELOAD_PAUSE_MS);
  }
}

function showTyping(userId) {
  const until = Date.now() + TYPING_SHOWN_MS;
  state.typing.set(userId, until);
  changed("typing");
  setTimeout(() => {
    // A later frame has set a later time.
    if (state.typing.get(userId) === until && state.typing.delete(userId)) changed("typing");
  }, TYPING_SHOWN_MS);
}

/** Keeps the user online. The server sets users offline after 60 s without a ping. */
function pingUser() {
  if (session.token && !connection.send({ type: "ping_user" })) api.setMeOnline(session.token).catch(() => {});
}

function handleTokenExpired() {
  if (!session.token || isChangingPassword()) return;
  session.token = null;
  showSignIn({ overChat: true });
}

async function signOut() {
  const { token } = session;
  connection.stop();
  clearUser();
  session.clear();
  byId("chat").hidden = true;
  let note = "";
  try {
    await api.setMeOffline(token);
    await api.revokeToken(token);
  } catch (problem) {
    // 401: the token has already expired.
    if (problem.status !== 401) {
      note = "You are signed out in this window. The server did not answer; your token expires within an hour.";
    }
  }
  showSignIn({ note });
}

function clearUser() {
  connection.stop();
  clearDraft();
  session.outbox = state.outbox = [];
  session.userId = null;
  state.typing.clear();
  resetReading();
}
