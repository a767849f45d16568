// Making elements. Text goes in as text; HTML goes in at one place only.

/** `element("p", { className: "x" }, "text", child)`; null children are left out. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("data-") || key.startsWith("aria-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#icon-${name}`);
}

const HEARTBEAT = "/static/js/heartbeat.js";

// The page's Content-Security-Policy allows HTML and worker scripts from this policy alone (Trusted Types): another
// innerHTML, written by mistake one day, would fail instead of opening a hole. Browsers without Trusted Types have the
// rest of the Content-Security-Policy.
const rules = { createHTML: (html) => html, createScriptURL: () => HEARTBEAT };
const trusted = globalThis.trustedTypes?.createPolicy("flack", rules) ?? rules;

/** A clock that keeps its pace in hidden windows. */
export const heartbeat = () => new Worker(trusted.createScriptURL(HEARTBEAT));

/** Puts a message's `html`, which the server rendered and cleaned, into an element. Nothing else may come here. */
export function putCleanedHtml(target, html) {
  target.innerHTML = trusted.createHTML(html);
  for (const link of target.querySelectorAll("a[href]")) {
    // The chat stays open, and the other side does not learn where its visitors come from.
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
}

/** A square with the first letter of a name, in a colour that stays the same for a user. */
export function avatar(userId, nickname) {
  const made = element("span", { className: "avatar", "aria-hidden": "true" }, [...nickname][0]?.toUpperCase() ?? "?");
  // The golden angle puts neighbouring ids far apart on the colour circle.
  made.style.setProperty("--hue", String(Math.round((userId * 137.508 + 160) % 360)));
  return made;
}
