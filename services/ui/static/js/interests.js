// The interests of the user: the dialog in which they are set, the marks of messages that match them, and the channels
// that the user may like. Loaded when it is first used. It imports nothing, because the other modules are in one
// script; it gets what it uses.

/** The server's limits. */
const INTERESTS_MAX = 20;
const INTEREST_CHARACTERS_MAX = 32;
const IDS_MAX = 100;
/** Then the service has received a message that was just posted. */
const DELAY_MS = 500;
/** Then it has received interests that were just set, also when it is busy. */
const SETTLED_MS = 3_000;
const RETRY_MS = 30_000;
/** Of more messages than this, what is known is forgotten. */
const SEEN_MAX = 5_000;
/** The server counts the messages of a channel up to this number, which means "or more". */
const ACTIVE_MESSAGES_MAX = 100;

export function makeInterests(app) {
  const { api, changed, element, interests, marks, nicknameOf, on, session, state } = app;
  const { open, showMissing } = makeDialog(app);
  let timer = null;
  /** Message id to the time of its change that was looked at. */
  const seen = new Map();
  on(["messages", "thread"], queryMarksSoon);

  /** Called when the interests have changed. */
  function markAgain() {
    forget();
    queryMarksSoon();
    setTimeout(() => {
      seen.clear();
      queryMarksSoon();
    }, SETTLED_MS);
  }

  function forget() {
    seen.clear();
    marks.clear();
    changed("marks");
  }

  function queryMarksSoon() {
    if (interests()) timer ??= setTimeout(queryMarks, DELAY_MS);
  }

  async function queryMarks() {
    timer = null;
    if (seen.size > SEEN_MAX) forget();
    const all = unseen();
    const messages = all.slice(0, IDS_MAX);
    const wanted = interests();
    if (!session.token || !wanted || messages.length === 0) return;
    try {
      const tagged = await api.tagMessages(session.token, messages.map(({ id }) => id));
      // They have changed meanwhile, and everything is compared again.
      if (interests() !== wanted) return;
      const matched = new Map(tagged.map((message) => [message.message_id, message.matched]));
      for (const { id, updated_at: updatedAt } of messages) {
        seen.set(id, updatedAt);
        if (matched.has(id)) marks.set(id, textOf(matched.get(id)));
        else marks.delete(id);
      }
      changed("marks");
      showMissing(false);
      if (all.length > IDS_MAX) queryMarksSoon();
    } catch {
      // Without the service, messages have no marks. The dialog says so.
      showMissing(true);
      timer ??= setTimeout(queryMarks, RETRY_MS);
    }
  }

  function unseen() {
    const { messages, thread } = state;
    const shown = [...messages.values(), ...(thread ? [thread.first, ...thread.replies.values()] : [])];
    return shown.filter((message) => message && !message.deleted_at && message.user_id !== session.userId
      && seen.get(message.id) !== message.updated_at);
  }

  const textOf = ({ words, people, topics }) =>
    [...words, ...people.map((id) => nicknameOf(id)), ...topics.map((topic) => `topic ${topic}`)].join(", ");

  /** Shows the channels that the user may like in a section with a note and a list. */
  async function suggest(section, { addressOf, join }) {
    const [note, list] = section.querySelectorAll("p, ul");
    list.replaceChildren();
    let channels = [];
    try {
      channels = await api.recommendChannels(session.token);
      note.hidden = true;
    } catch {
      note.textContent = "They cannot be loaded now.";
      note.hidden = false;
    }
    // The service may not know yet what the user has just joined.
    channels = channels.map((found) => ({ ...state.channels.get(found.channel_id), reason: found.reason }))
      .filter(({ id, member }) => id && !member);
    section.hidden = channels.length === 0 && note.hidden;
    list.replaceChildren(...channels.map((channel) => element("li", { className: "choice-row" },
      element("span", { className: "choice-text" },
        element("a", { className: "choice-name", href: addressOf(channel), "data-close": "" }, `#${channel.name}`),
        element("span", { className: "choice-note" }, reasonText(channel.reason))),
      element("button", {
        type: "button", className: "small", "aria-label": `Join #${channel.name}`, onclick: () => join(channel),
      }, "Join"))));
  }

  return { markAgain, open, suggest };
}

function reasonText({ kind, words, messages }) {
  if (kind === "shared_words") return `As in your channels: ${words.join(", ")}`;
  const count = messages >= ACTIVE_MESSAGES_MAX ? `${ACTIVE_MESSAGES_MAX} or more` : messages;
  return `${count} ${messages === 1 ? "message" : "messages"} in the last 7 days`;
}

function makeDialog({ element, interests, nicknameOf, onSubmit, setInterests, state }) {
  const field = (name, label, hint) => element("label", { className: "field" }, element("span", {}, label),
    element("input", { name, autocomplete: "off", spellcheck: false, placeholder: hint }));
  const missing = element("p", { className: "card-note", role: "status", hidden: true },
    "Messages cannot be marked now. Flack tries again.");
  const form = element("form", { className: "card-form" },
    element("h2", { id: "interests-heading" }, "Interests"),
    element("p", { className: "card-note" },
      "Messages of others that match are marked, also older ones. Separate entries with commas."),
    field("words", "Words or phrases of a message", "release, sea birds"),
    field("people", "People", "ada, grace"),
    field("topics", "Words of the topic or the name of a channel", "photos"),
    missing,
    element("p", { className: "sign-in-problem", role: "alert", hidden: true }),
    element("div", { className: "card-buttons" },
      element("button", { className: "small primary", type: "submit" }, "Save"),
      element("button", { className: "small", type: "button", onclick: () => dialog.close() }, "Cancel")));
  const dialog = element("dialog", {
    id: "interests", className: "card", "aria-labelledby": "interests-heading",
    // A handler that returns false would prevent the submission.
    onclick: ({ target }) => { if (target === dialog) dialog.close(); },
  }, form);
  document.body.append(dialog);

  onSubmit(form, ({ words, people, topics }) => setInterests({
    words: textsOf(words),
    people: entriesOf(people).map((nickname) => {
      const user = [...state.users.values()].find((known) => known.nickname.toLowerCase() === nickname.toLowerCase());
      if (!user) throw new Error(`There is no user with the nickname ${nickname}.`);
      return user.id;
    }),
    topics: textsOf(topics),
  }));

  function open() {
    // After a second click while the preferences were loaded.
    if (dialog.open) return;
    const { words = [], people = [], topics = [] } = interests() ?? {};
    form.reset();
    form.elements.words.value = words.join(", ");
    form.elements.people.value = people.map((id) => nicknameOf(id)).join(", ");
    form.elements.topics.value = topics.join(", ");
    dialog.showModal();
  }

  return { open, showMissing: (isMissing) => { missing.hidden = !isMissing; } };
}

function textsOf(input) {
  const long = entriesOf(input).find((text) => text.length > INTEREST_CHARACTERS_MAX);
  if (long) throw new Error(`“${long}” is longer than ${INTEREST_CHARACTERS_MAX} characters.`);
  return entriesOf(input);
}

function entriesOf({ value }) {
  const entries = [...new Set(value.split(",").map((entry) => entry.trim()).filter(Boolean))];
  if (entries.length > INTERESTS_MAX) throw new Error(`A field can have at most ${INTERESTS_MAX} entries.`);
  return entries;
}
