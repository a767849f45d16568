// Opens the drawer "behind the scenes" (Ctrl+.), whose module is not part of the first view.

import * as api from "./api.js";
import { byId, element } from "./dom.js";
import { session } from "./session.js";
import { on, state } from "./state.js";
import { clockTime } from "./time.js";
import { showNotice } from "./view-settings.js";

const opener = byId("scenes-open");

let toggle = null;

export function openScenesView() {
  opener.addEventListener("click", toggleDrawer);
  addEventListener("keydown", (event) => {
    if (event.key !== "." || !(event.ctrlKey || event.metaKey) || !session.token) return;
    event.preventDefault();
    toggleDrawer();
  });
}

async function toggleDrawer() {
  try {
    const { makeDrawer } = await import("/static/js/scenes.js");
    toggle ??= makeDrawer({ api, clockTime, element, on, session, state, opener });
    toggle();
  } catch {
    showNotice("This part of the app cannot be loaded now. Try again.");
  }
}
