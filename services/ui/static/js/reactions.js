// Reactions to messages. An own change is shown at once, and undone if the server refuses it.

import * as api from "./api.js";
import { session } from "./session.js";
import { applyMessage, changed, messageOf, nicknameOf } from "./state.js";
import { showNotice } from "./view-settings.js";

const NAMES_SHOWN_MAX = 12;

/** Message id to emoji to whether the user wants it, as long as the server has not confirmed it. */
const unconfirmed = new Map();

/** The reactions to a message as the user wants them: {emoji, count, isMine, names}. */
export function reactionsOf({ id, reactions = [] }) {
  const wanted = [...(unconfirmed.get(id) ?? [])].reduce(withOwn, reactions);
  return wanted.map((reaction) => {
    const isMine = reaction.user_ids.includes(session.userId);
    return { emoji: reaction.emoji, count: reaction.count, isMine, names: namesOf(reaction, isMine) };
  });
}

// The reactions after the user has set or removed an own one.
function withOwn(reactions, [emoji, isSet]) {
  const known = reactions.find((reaction) => reaction.emoji === emoji) ?? { emoji, count: 0, user_ids: [] };
  if (known.user_ids.includes(session.userId) === isSet) return reactions;
  const others = known.user_ids.filter((id) => id !== session.userId);
  const next = isSet
    ? { emoji, count: known.count + 1, user_ids: [...others, session.userId] }
    : { emoji, count: known.count - 1, user_ids: others };
  const isKnown = reactions.includes(known);
  const all = isKnown ? reactions.map((reaction) => (reaction === known ? next : reaction)) : [...reactions, next];
  return all.filter(({ count }) => count > 0);
}

function namesOf({ count, user_ids: ids }, isMine) {
  const names = ids.filter((id) => id !== session.userId).slice(0, NAMES_SHOWN_MAX).map((id) => nicknameOf(id));
  if (isMine) names.unshift("you");
  if (count > names.length) names.push(`${count - names.length} more`);
  return new Intl.ListFormat("en").format(names);
}

/** Sets or removes an own reaction. */
export async function react({ id }, emoji, isWanted) {
  const own = unconfirmed.get(id) ?? new Map();
  const isSending = own.has(emoji);
  unconfirmed.set(id, own.set(emoji, isWanted));
  changed("reactions");
  // The call that is being sent is followed by one for the last choice.
  if (isSending) return;
  try {
    let sent;
    do {
      sent = own.get(emoji);
      await api.setReaction(session.token, id, emoji, sent);
    } while (own.get(emoji) !== sent);
    const message = messageOf(id);
    // The event delivers it too, but later.
    if (message) applyMessage({ ...message, reactions: withOwn(message.reactions ?? [], [emoji, sent]) });
  } catch (problem) {
    showNotice(`The reaction was not changed. ${problem.message}`);
  }
  own.delete(emoji);
  changed("reactions");
}
