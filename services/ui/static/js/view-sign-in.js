// Signing in and registering: one form. It stands alone at first, and over the chat when a token has ended, so that
// what was being written stays where it is.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { session } from "./session.js";

// A suggestion for new passwords; the server takes any, and old ones must go on working.
const PASSWORD_LENGTH_SUGGESTED = 8;

const dialog = byId("sign-in");
const form = byId("sign-in-form");
const problemText = byId("sign-in-problem");
const go = byId("sign-in-go");

let signedIn = () => {};
/** The password that was found short; entering it again is taken as meant. */
let shortPassword = null;

export function openSignInView(onSignedIn) {
  signedIn = onSignedIn;
  form.addEventListener("submit", submit);
  for (const radio of form.elements.way) radio.addEventListener("change", showWay);
  // There is nothing behind this dialog that could be used without it.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
}

/** `overChat`: a session has ended. `note` says why, when there is something to say. */
export function askToSignIn({ overChat = false, note = "" } = {}) {
  if (dialog.open) return;
  dialog.dataset.place = overChat ? "over-chat" : "alone";
  byId("sign-in-heading").textContent = overChat ? "Sign in again" : "Welcome to Flack";
  byId("sign-in-lead").textContent = note || (overChat
    ? "Your session has ended. What you were writing is still there."
    : "Pick a name and say hello.");
  if (session.nickname) {
    form.elements.nickname.value = session.nickname;
    form.elements.way.value = "return";
  }
  form.elements.password.value = "";
  showProblem("");
  showWay();
  // Closing would give the focus back to where it was, while that place is still shut off by the dialog: Chromium then
  // shows a field that has the focus and takes no letters. Who is signed in is put into the composer by main.js.
  document.activeElement?.blur();
  dialog.showModal();
  (session.nickname ? form.elements.password : form.elements.nickname).focus();
}

function showWay() {
  const isNew = form.elements.way.value === "register";
  go.textContent = isNew ? "Join the chat" : "Sign in";
  byId("password-hint").hidden = !isNew;
  // Tells password managers whether to offer a new password or the stored one.
  form.elements.password.autocomplete = isNew ? "new-password" : "current-password";
  showProblem("");
}

async function submit(event) {
  event.preventDefault();
  const nickname = form.elements.nickname.value.trim();
  const password = form.elements.password.value;
  const isNew = form.elements.way.value === "register";
  if (isNew && password.length < PASSWORD_LENGTH_SUGGESTED && password !== shortPassword) {
    shortPassword = password;
    showProblem(`That password is short: ${PASSWORD_LENGTH_SUGGESTED} characters or more are harder to guess. Press again to use it all the same.`);
    form.elements.password.focus();
    return;
  }
  go.disabled = true;
  try {
    const user = isNew ? await api.createUser(nickname, password) : null;
    // From here on the account exists: should the token not come, a second try must not register again.
    if (isNew) form.elements.way.value = "return";
    const token = await api.createToken(nickname, password);
    form.elements.password.value = "";
    dialog.close();
    signedIn({ nickname, token, userId: user?.id ?? null });
  } catch (problem) {
    showProblem(problem.status === 401 ? "This nickname and password do not belong together." : problem.message);
    (problem.status === 401 ? form.elements.password : form.elements.nickname).focus();
  } finally {
    go.disabled = false;
  }
}

function showProblem(text) {
  problemText.textContent = text;
  problemText.hidden = !text;
}
