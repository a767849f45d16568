// DOM elements. Text is inserted as text. HTML is inserted by one function only.

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

export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#icon-${name}`);
}

const HEARTBEAT = "/static/js/heartbeat.js";

// The Content-Security-Policy allows HTML and worker scripts from this policy only (Trusted Types): another assignment
// to innerHTML would fail. Browsers without Trusted Types still have the rest of the Content-Security-Policy.
const rules = { createHTML: (html) => html, createScriptURL: () => HEARTBEAT };
const trusted = globalThis.trustedTypes?.createPolicy("flack", rules) ?? rules;

/** A timer that is not slowed down in hidden windows. */
export const heartbeat = () => new Worker(trusted.createScriptURL(HEARTBEAT));

/** Inserts the `html` of a message, which the server has rendered and sanitized. Must not be called with other HTML. */
export function insertSanitizedHtml(target, html) {
  target.innerHTML = trusted.createHTML(html);
  for (const link of target.querySelectorAll("a[href]")) {
    // The chat stays open, and the other site does not learn the address of the chat.
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
}

/** A square with the first letter of a nickname, in the user's colour. */
export function avatar(userId, nickname) {
  const letter = [...nickname][0]?.toUpperCase() ?? "?";
  const created = element("span", { className: "avatar", "aria-hidden": "true" }, letter);
  // The golden angle gives neighbouring ids different hues.
  created.style.setProperty("--hue", String(Math.round((userId * 137.508 + 160) % 360)));
  return created;
}
