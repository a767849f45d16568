// The picker of reactions: some emoji, and a field for any other. It is beside the button that opens it.

import { byId, element } from "./dom.js";
import { react, reactionsOf } from "./reactions.js";
import { messageOf } from "./state.js";

const EMOJIS = {
  "👍": "thumbs up", "❤️": "heart", "😂": "laughing", "🎉": "party", "😮": "surprised", "😢": "sad",
  "🙏": "thanks", "👀": "looking", "✅": "done",
};
/** The server decides; this refuses words at once. */
const MAY_BE_EMOJI = /^[^\p{L}\s]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20e3][^\p{L}\s]*$/u;
const GAP_PX = 8;

const picker = byId("picker");
const form = byId("picker-form");
const problem = byId("picker-problem");

let messageId = null;

export function openPickerView() {
  byId("picker-choice").append(...Object.entries(EMOJIS).map(([emoji, name]) => element("button", {
    type: "button", className: "emoji", title: name, "aria-label": name, "data-emoji": emoji,
    onclick: () => choose(emoji),
  }, emoji)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const emoji = form.elements.emoji.value.trim();
    problem.hidden = MAY_BE_EMOJI.test(emoji);
    if (problem.hidden) choose(emoji);
  });
}

/** Opens the picker beside `anchor`. */
export function openPicker({ id }, anchor) {
  messageId = id;
  form.reset();
  problem.hidden = true;
  for (const button of byId("picker-choice").children) {
    button.setAttribute("aria-pressed", String(isMine(button.dataset.emoji)));
  }
  picker.showPopover();
  const { right, top, bottom } = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = picker;
  const above = top - height - GAP_PX;
  picker.style.left = `${Math.max(GAP_PX, Math.min(right, innerWidth - GAP_PX) - width)}px`;
  picker.style.top = `${above > GAP_PX ? above : Math.min(bottom + GAP_PX, innerHeight - height - GAP_PX)}px`;
  byId("picker-choice").firstElementChild.focus();
}

const isMine = (emoji) =>
  reactionsOf(messageOf(messageId) ?? {}).some((reaction) => reaction.emoji === emoji && reaction.isMine);

function choose(emoji) {
  picker.hidePopover();
  react({ id: messageId }, emoji, !isMine(emoji));
}
