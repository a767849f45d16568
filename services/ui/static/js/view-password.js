// The form to change the password. It always sends the current one, so a token that somebody has found is not enough.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { session } from "./session.js";

const dialog = byId("password-change");
const form = byId("password-change-form");
const problemText = byId("password-change-problem");
const submitButton = byId("password-change-go");

/** Whether this window changes the password: then the server revokes its token, and it gets a new one. */
export const isChangingPassword = () => submitButton.disabled;

/** `changed` receives a new token. `refused` is called when the token was invalid. */
export function openPasswordView({ changed, refused }) {
  byId("account").addEventListener("click", show);
  byId("password-change-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => form.reset());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(changed, refused);
  });
}

function show() {
  // For password managers.
  form.elements.nickname.value = session.nickname;
  showProblem("");
  dialog.showModal();
}

async function submit(changed, refused) {
  const { nickname, token, userId } = session;
  const password = form.elements.next.value;
  submitButton.disabled = true;
  showProblem("");
  try {
    await api.changePassword(token, userId, form.elements.current.value, password);
    const newToken = await api.createToken(nickname, password);
    dialog.close();
    changed({ nickname, userId, token: newToken });
  } catch (problem) {
    if (problem.status === 401) {
      dialog.close();
      submitButton.disabled = false;
      refused();
    } else {
      showProblem(problem.status === 403 ? "The current password is wrong." : problem.message);
      (problem.status === 403 ? form.elements.current : form.elements.next).focus();
    }
  } finally {
    submitButton.disabled = false;
  }
}

function showProblem(text) {
  problemText.textContent = text;
  problemText.hidden = !text;
}
