// Opens what depends on the interests of the user: the dialog in which they are set, the marks of messages, and the
// channels that the user may like. Its module is not part of the first view.

import * as api from "./api.js";
import { byId, element, onSubmit } from "./dom.js";
import { session } from "./session.js";
import { changed, nicknameOf, on, state } from "./state.js";
import { interests, loadPreferences, setInterests, showNotice } from "./view-settings.js";

/** Message id to the interests that it matches, as text. */
export const marks = new Map();

let made = null;

export function openInterestsView() {
  byId("interests-open").addEventListener("click", async () => {
    // The dialog replaces all that are stored.
    if (await loadPreferences()) withInterests((module) => module.open(), showNotice);
    else showNotice("Your interests cannot be loaded now. Try again.");
  });
  // Without interests no message is marked, and nothing is loaded.
  on(["preferences"], () => (interests() || made) && withInterests((module) => module.markAgain()));
}

/** Calls `use` with the module. If it cannot be loaded, calls `failed` with the reason. */
export async function withInterests(use, failed = () => {}) {
  try {
    const { makeInterests } = await import("/static/js/interests.js");
    made ??= makeInterests({
      api, changed, element, interests, marks, nicknameOf, on, onSubmit, session, setInterests, state,
    });
  } catch {
    return failed("This part of the app cannot be loaded now. Try again.");
  }
  use(made);
}
