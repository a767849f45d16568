// The form to sign in and to register. It fills the window at first. When a token has expired, it is shown over the
// chat, so that the draft is kept.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { session } from "./session.js";

const dialog = byId("sign-in");
const form = byId("sign-in-form");
const problemText = byId("sign-in-problem");
const submitButton = byId("sign-in-go");

let signedIn = () => {};

export function openSignInView(onSignedIn) {
  signedIn = onSignedIn;
  form.addEventListener("submit", submit);
  for (const radio of form.elements.way) radio.addEventListener("change", showMode);
  // The app cannot be used without signing in, so Esc must not close the dialog.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
}

/** `overChat`: the token has expired. `note` replaces the default text. */
export function showSignIn({ overChat = false, note = "" } = {}) {
  if (dialog.open) return;
  dialog.dataset.place = overChat ? "over-chat" : "alone";
  byId("sign-in-heading").textContent = overChat ? "Sign in again" : "Welcome to Flack";
  byId("sign-in-lead").textContent = note || (overChat
    ? "Your session has expired, or your password was changed. Your draft is kept."
    : "Choose a nickname to join the chat.");
  if (session.nickname) {
    form.elements.nickname.value = session.nickname;
    form.elements.way.value = "return";
  }
  form.elements.password.value = "";
  showProblem("");
  showMode();
  // When a dialog closes, Chromium returns the focus to the previous element while the dialog still blocks it: the
  // field then has the focus but accepts no input. Without a previous element this does not happen; main.js sets the
  // focus afterwards.
  document.activeElement?.blur();
  dialog.showModal();
  (session.nickname ? form.elements.password : form.elements.nickname).focus();
}

/** Called when another tab has signed in. */
export function hideSignIn() {
  form.elements.password.value = "";
  dialog.close();
}

function showMode() {
  const isNew = form.elements.way.value === "register";
  submitButton.textContent = isNew ? "Join the chat" : "Sign in";
  byId("password-hint").hidden = !isNew;
  // For password managers: offer a new password or the stored one.
  form.elements.password.autocomplete = isNew ? "new-password" : "current-password";
  showProblem("");
}

async function submit(event) {
  event.preventDefault();
  const nickname = form.elements.nickname.value.trim();
  const password = form.elements.password.value;
  const isNew = form.elements.way.value === "register";
  submitButton.disabled = true;
  try {
    const user = isNew ? await api.createUser(nickname, password) : null;
    // The account exists now. If the token request fails, the next attempt must sign in, not register.
    if (isNew) form.elements.way.value = "return";
    const token = await api.createToken(nickname, password);
    form.elements.password.value = "";
    dialog.close();
    signedIn({ nickname, token, userId: user?.id ?? null });
  } catch (problem) {
    showProblem(problem.status === 401 ? "The nickname or the password is wrong." : problem.message);
    // 400: the server explains which rule the password or the nickname breaks.
    ([400, 401].includes(problem.status) ? form.elements.password : form.elements.nickname).focus();
  } finally {
    submitButton.disabled = false;
  }
}

function showProblem(text) {
  problemText.textContent = text;
  problemText.hidden = !text;
}
