// DOM elements. Text is inserted as text. HTML is inserted by one function only.

import { hueOf } from "./state.js";

/** `element("p", { className: "x" }, "text", child)`. Null children are ignored. */
export function element(name, properties = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("data-") || key.startsWith("aria-")) created.setAttribute(key, value);
    else created[key] = value;
  }
  created.append(...children.filter((child) => child !== null));
  return created;
}

export const byId = (id) => document.getElementById(id);

// SVG elements need their own namespace, which createElement does not use.
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(namespace, "use"));
  svg.firstChild.setAttribute("href", `#icon-${name}`);
  return svg;
}

export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#icon-${name}`);
}

/** In a toolbar, Tab reaches one button, and the arrow keys reach the others. */
export function openToolbars() {
  addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const bar = step && event.target.closest("[role=toolbar]");
    if (!bar) return;
    const buttons = [...bar.children];
    buttons.at((buttons.indexOf(event.target) + step) % buttons.length).focus();
    event.preventDefault();
  });
}

/** A toolbar of these buttons and links. */
export function toolbar(label, className, buttons) {
  for (const button of buttons.slice(1)) button.tabIndex = -1;
  return element("div", { className, role: "toolbar", "aria-label": label }, ...buttons);
}

/** Connects the buttons that close a dialog, and a click beside it. */
export function openDialogs() {
  for (const dialog of document.querySelectorAll("dialog.card")) {
    dialog.addEventListener("click", ({ target }) => {
      if (target === dialog || target.closest("[data-close]")) dialog.close();
    });
  }
}

/**
 * Calls `send` when the form is submitted, and shows why it has failed. Then closes the form's dialog, unless it has
 * returned false.
 */
export function onSubmit(form, send) {
  const problem = form.querySelector("[role=alert]");
  const button = form.querySelector("[type=submit]");
  const show = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  form.addEventListener("reset", () => show(""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    show("");
    try {
      if ((await send(form.elements)) !== false) form.closest("dialog").close();
    } catch (failure) {
      show(failure.message);
    } finally {
      button.disabled = false;
    }
  });
}

const HEARTBEAT = "/static/js/heartbeat.js";

// The Content-Security-Policy allows HTML and worker scripts from this policy only (Trusted Types): another assignment
// to innerHTML would fail. Browsers without Trusted Types still have the rest of the Content-Security-Policy.
const rules = { createHTML: (html) => html, createScriptURL: () => HEARTBEAT };
const trusted = globalThis.trustedTypes?.createPolicy("flack", rules) ?? rules;

/** A timer that is not slowed down in hidden windows. */
export const heartbeat = () => new Worker(trusted.createScriptURL(HEARTBEAT));

// Called after the layout, so that it causes none. A block that has to be scrolled sideways gets the keyboard's focus.
const blocks = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

/** Inserts the `html` of a message, which the server has rendered and sanitized. Must not be called with other HTML. */
export function insertSanitizedHtml(target, html) {
  target.innerHTML = trusted.createHTML(html);
  for (const link of target.querySelectorAll("a[href]")) {
    // The chat stays open, and the other site does not learn the address of the chat.
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const block of target.querySelectorAll("pre, table")) blocks.observe(block);
}

/** A square with the first letter of a nickname, in the user's colour. */
export function avatar(userId, nickname) {
  const letter = [...nickname][0]?.toUpperCase() ?? "?";
  const created = element("span", { className: "avatar", "aria-hidden": "true" }, letter);
  created.style.setProperty("--hue", String(hueOf(userId)));
  return created;
}
