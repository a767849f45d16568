// The composer of the open channel.

import { titleOf } from "./channel-names.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { post } from "./outbox.js";
import { on, openChannel, state } from "./state.js";
import { endTyping, sendTyping } from "./typing.js";
import { goToEnd } from "./view-messages.js";

let composer;
/** The channel of the text in the field. */
let channelId = null;

export function openComposerView() {
  composer = new Composer(byId("composer"), byId("draft-note"), {
    place: "channel",
    typed: () => sendTyping({ channel_id: channelId }),
    send: (source, files) => {
      endTyping();
      post(channelId, source, files.length > 0 ? { files } : {});
      goToEnd();
    },
  });
  on(["channel", "channels", "users"], show);
}

export const focusComposer = () => composer.focus();

export const clearDraft = () => composer.clear();

function show() {
  if (channelId !== state.channelId) {
    channelId = state.channelId;
    composer.show(channelId);
  }
  const channel = openChannel();
  const title = channel ? titleOf(channel) : "";
  byId("draft-label").textContent = `Message to ${title}. Enter sends, Shift and Enter inserts a line break.`;
  byId("draft").placeholder = `Message ${title}`;
}
