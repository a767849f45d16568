// The thread beside the channel: its first message, its replies, and their composer. On a phone it covers the channel.

import { titleOf } from "./channel-names.js";
import { closeThread, goTo, showAddressed } from "./channels.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { post } from "./outbox.js";
import { createList, ROW_TOPICS, rowsFor } from "./rows.js";
import { changed, draftKey, on, openChannel, outgoingIn, repliesInOrder, state } from "./state.js";
import { loadEarlierReplies } from "./threads.js";
import { endTyping, sendTyping } from "./typing.js";

// A reader who is this close to the end follows new replies.
const NEAR_END_PX = 80;

const pane = byId("thread");
const scroller = byId("thread-scroller");
const firstList = createList(byId("thread-first"), scroller);
const list = createList(byId("replies"), scroller);

let composer;
/** The thread that is shown. */
let shownId = null;
let shownPages = 0;
let followsEnd = true;
/** The reply that is scrolled to when it is loaded: {threadId, id}. */
let sought = null;

export function openThreadView() {
  composer = new Composer(byId("thread-composer"), byId("thread-draft-note"), {
    place: "thread",
    typed: () => sendTyping({ channel_id: state.channelId, thread_id: shownId }),
    send: (source, files) => {
      endTyping();
      followsEnd = true;
      post(state.channelId, source, { thread_id: shownId, ...(files.length > 0 ? { files } : {}) });
    },
  });
  on(["channel", "thread", ...ROW_TOPICS], show);
  byId("thread-close").addEventListener("click", closeThread);
  byId("thread-earlier").addEventListener("click", loadEarlierReplies);
  pane.addEventListener("keydown", ({ key, target }) => {
    if (key === "Escape" && !target.closest(".edit-form")) closeThread();
  });
  scroller.addEventListener("scroll", () => {
    followsEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
  }, { passive: true });
  const observer = new ResizeObserver(() => {
    if (followsEnd) scroller.scrollTop = scroller.scrollHeight;
  });
  observer.observe(scroller);
  observer.observe(byId("thread-column"));
}

/** Opens a thread at one of its replies. */
export function goToReply(channel, threadId, id) {
  goTo(channel, threadId);
  // The event of the new address comes later.
  showAddressed();
  sought = { threadId, id };
  changed("thread");
}

function show() {
  const { thread } = state;
  if (shownId !== (thread?.id ?? null)) showOther(thread);
  const channel = openChannel();
  if (!thread || !channel) return;
  byId("thread-place").textContent = titleOf(channel);
  byId("thread-loading").hidden = state.loaded.thread;
  const { first } = thread;
  const cannotPost = (state.loaded.channels && !channel.member) || channel.archived_at || first?.deleted_at;
  byId("thread-foot").hidden = Boolean(cannotPost);

  const isPage = shownPages !== thread.pagesApplied;
  shownPages = thread.pagesApplied;
  const fromEnd = scroller.scrollHeight - scroller.scrollTop;
  firstList.show(first ? rowsFor([first], [], { place: "thread" }) : [], isPage);
  const count = first?.reply_count ?? 0;
  byId("thread-count").hidden = count === 0;
  byId("thread-count").textContent = `${count} ${count === 1 ? "reply" : "replies"}`;
  byId("thread-earlier").hidden = thread.earlier === null;
  list.show(rowsFor(repliesInOrder(), outgoingIn(state.channelId, thread.id), { place: "thread" }), isPage);
  // Earlier replies are inserted above those that are being read.
  if (isPage && !followsEnd) scroller.scrollTop = scroller.scrollHeight - fromEnd;
  if (sought?.threadId === thread.id && state.loaded.thread) showSought(thread);
}

function showSought({ earlier }) {
  const row = list.rowOf(sought.id);
  if (!row && earlier !== null) return loadEarlierReplies();
  sought = null;
  if (!row) return;
  followsEnd = false;
  row.scrollIntoView({ block: "center" });
  row.tabIndex = -1;
  row.focus({ preventScroll: true });
}

function showOther(thread) {
  const closedId = shownId;
  const hadFocus = pane.contains(document.activeElement);
  shownId = thread?.id ?? null;
  if (sought?.threadId !== shownId) sought = null;
  shownPages = 0;
  followsEnd = true;
  pane.hidden = !thread;
  composer.show(thread && draftKey({ channel_id: state.channelId, thread_id: thread.id }));
  // The keyboard of a phone would cover the thread.
  if (thread) byId(matchMedia("(pointer: coarse)").matches ? "thread-heading" : "thread-draft").focus();
  else if (hadFocus) {
    const row = byId("messages").querySelector(`[data-message-id="${closedId}"]`);
    (row?.querySelector(".replies, .reply") ?? byId("draft")).focus();
  }
}
