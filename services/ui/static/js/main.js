// Flack in the browser. This file ties the parts together; read it first, then state.js, socket.js and outbox.js.
//
//   api.js      the REST API                      view-*.js   a part of the page each
//   socket.js   the live connection               message.js  how one message looks
//   outbox.js   what was said and not confirmed   reading.js  read and unread
//   session.js  what survives a reload            dom.js      elements; the one place where HTML goes in
//   state.js    what this window knows            time.js     times in words

import * as api from "./api.js";
import { byId, heartbeat } from "./dom.js";
import { arrived, flush, openOutbox, socketLost, takePosted, takeProblem } from "./outbox.js";
import { forgetReading, loadReadMarker, noteArrival, openReading } from "./reading.js";
import { session } from "./session.js";
import { Connection } from "./socket.js";
import { acceptLists, acceptModel, beginReload, changed, setConnection, state } from "./state.js";
import { clearDraft, focusComposer, openComposerView, TYPING_SHOWN_MS } from "./view-composer.js";
import { openConnectionView } from "./view-connection.js";
import { noteNew, openMessagesView } from "./view-messages.js";
import { openPeopleView, refresh as refreshPeople } from "./view-people.js";
import { loadPreferences, openSettingsView } from "./view-settings.js";
import { askToSignIn, openSignInView } from "./view-sign-in.js";

const RELOAD_PAUSE_MS = 2_000;

const connection = new Connection({
  token: () => session.token,
  frame: takeFrame,
  phase: (phase) => {
    if (phase.phase !== "online") socketLost();
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
openReading();
// A refusal may arrive after somebody has signed in again: it was for the token before.
api.onTokenRefused((token) => token === session.token && tokenEnded());
byId("sign-out").addEventListener("click", signOut);
heartbeat().onmessage = signOfLife;

if (session.token) enter();
else askToSignIn();

function signedIn({ nickname, token, userId }) {
  // Somebody else at the same window: nothing of the one before may stay, least of all what they were writing.
  if (session.nickname && session.nickname.toLowerCase() !== nickname.toLowerCase()) forgetPerson();
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

// What the server sends. Frames of types that are not known here are for newer pages than this one.
function takeFrame(frame) {
  switch (frame.type) {
    case "welcome":
      if (frame.user_id) session.userId = frame.user_id;
      changed("session");
      // Everything since the cursor follows by itself, or it is too long ago for that.
      if (!frame.resumed) reload();
      flush();
      signOfLife();
      break;
    case "updated_model":
      takeModel(frame);
      break;
    case "posted":
      takePosted(frame);
      break;
    case "problem":
      // Without an id it answers the hello: the token was refused.
      if (!frame.id && frame.status === 401) tokenEnded();
      else takeProblem(frame);
      break;
    case "typing":
      showTyping(frame.user_id);
      break;
    case "expired_token":
      tokenEnded();
      break;
  }
}

function takeModel({ class: modelClass, model }) {
  const isNew = acceptModel(modelClass, model);
  if (modelClass !== "Message") return;
  if (state.typing.delete(model.user_id)) changed("typing");
  if (!isNew) return;
  if (model.user_id === session.userId) arrived(model);
  // Before the lists have been read, "new" means nothing.
  else if (state.loaded) {
    noteNew();
    noteArrival(model);
  }
}

// The socket delivers from its welcome on, so lists that are read after it leave no gap.
async function reload() {
  beginReload();
  try {
    const [users, messages] = await Promise.all([api.listUsers(), api.listMessages()]);
    acceptLists(users, messages);
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
    // Unless more was typed meanwhile.
    if (state.typing.get(userId) === until && state.typing.delete(userId)) changed("typing");
  }, TYPING_SHOWN_MS);
}

/** Sixty seconds without one, and the others see this user leave. */
function signOfLife() {
  if (session.token && !connection.send({ type: "ping_user" })) api.setMeOnline(session.token).catch(() => {});
}

function tokenEnded() {
  if (!session.token) return;
  session.token = null;
  askToSignIn({ overChat: true });
}

async function signOut() {
  const { token } = session;
  connection.stop();
  forgetPerson();
  session.clear();
  byId("chat").hidden = true;
  let note = "";
  try {
    await api.setMeOffline(token);
    await api.revokeToken(token);
  } catch (problem) {
    // Already ended is as good as ended by us.
    if (problem.status !== 401) note = "You are signed out in this window. The server could not be told; your token ends by itself within an hour.";
  }
  askToSignIn({ note });
}

function forgetPerson() {
  connection.stop();
  clearDraft();
  session.outbox = state.outbox = [];
  session.userId = null;
  state.typing.clear();
  forgetReading();
}
