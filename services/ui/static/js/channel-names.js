// The names and addresses of channels.

import { session } from "./session.js";
import { nicknameOf, openChannel } from "./state.js";

const PEOPLE_NAMED_MAX = 3;

export const addressOf = ({ kind, name, id }) => (kind === "direct" ? `#/direct/${id}` : `#/channels/${name}`);

/** The address of a thread of the open channel: of its first message, or of a reply. */
export const threadAddress = ({ id, thread_id: threadId }) => `${addressOf(openChannel())}/${threadId ?? id}`;

export const othersIn = ({ user_ids: ids = [] }) => ids.filter((id) => id !== session.userId);

/** The name as users see it: of a direct channel, those of the other people. */
export function nameOf(channel) {
  if (channel.kind !== "direct") return channel.name;
  const names = othersIn(channel).map((id) => nicknameOf(id)).sort((a, b) => a.localeCompare(b));
  const more = names.length - PEOPLE_NAMED_MAX;
  if (more > 0) names.splice(PEOPLE_NAMED_MAX, more, `${more} more`);
  return names.join(", ");
}

/** The name in texts. */
export const titleOf = (channel) => (channel.kind === "direct" ? nameOf(channel) : `#${channel.name}`);
