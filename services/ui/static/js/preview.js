// The preview of a text in a composer: as the server would render the message.

import * as api from "./api.js";
import { element, icon, insertSanitizedHtml } from "./dom.js";
import { session } from "./session.js";

// After the last key.
const PAUSE_MS = 300;

/** Adds the button to the toolbar of the form. Returns a function that closes the preview. */
export function openPreview(form, field) {
  let timer = null;
  let current = null;
  const pane = element("div", { className: "preview message-text", hidden: true, tabIndex: 0, role: "region",
    "aria-label": "Preview of the message" });
  const button = element("button", { type: "button", title: "Preview", "aria-label": "Preview", "aria-pressed": "false",
    tabIndex: -1, onclick: () => set(pane.hidden) }, icon("preview"));

  async function show() {
    clearTimeout(timer);
    const wanted = (current = {});
    const source = field.value.trim();
    if (!source) return pane.replaceChildren(element("p", {}, "Nothing to preview yet."));
    try {
      const html = await api.renderMessage(session.token, source);
      if (current === wanted) insertSanitizedHtml(pane, html);
    } catch (problem) {
      if (current === wanted) pane.replaceChildren(element("p", {}, problem.message));
    }
  }

  function set(isOpen) {
    pane.hidden = !isOpen;
    button.setAttribute("aria-pressed", String(isOpen));
    current = null;
    if (isOpen) show();
  }

  form.prepend(pane);
  form.querySelector("[role=toolbar]").append(button);
  field.addEventListener("input", () => {
    clearTimeout(timer);
    if (!pane.hidden) timer = setTimeout(show, PAUSE_MS);
  });
  return () => set(false);
}
