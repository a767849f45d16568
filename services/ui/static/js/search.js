// The search: a dialog with a query and its results. Loaded when it is first opened. It imports nothing, because the
// other modules are in one script; it gets what it uses.

const UNAVAILABLE = "Search is not available now. The rest of the chat works without it.";

/** Returns a function that opens the dialog. */
export function makeSearch({ element, find, fullTime, goToResult, nicknameOf, state, titleOf }) {
  const input = element("input", {
    id: "search-input", className: "card-input", maxLength: 200, required: true, autocomplete: "off",
    enterKeyHint: "search", spellcheck: false, placeholder: "Search messages", "aria-describedby": "search-hint",
  });
  const status = element("p", { className: "card-note", role: "status" });
  const list = element("ol", { className: "search-results", onkeydown: moveFocus });
  const more = element("button", { type: "button", className: "small", hidden: true, onclick: showMore },
    "More results");
  const form = element("form", { className: "search-form", role: "search", onsubmit: search },
    element("label", { htmlFor: "search-input", className: "unseen" }, "Search messages"), input,
    element("button", { type: "submit", className: "small primary" }, "Search"));
  const close = element("button", { type: "button", className: "small", onclick: () => dialog.close() }, "Close");
  const dialog = element("dialog", { id: "search", className: "card search", "aria-labelledby": "search-heading" },
    element("h2", { id: "search-heading" }, "Search messages"), form,
    element("p", { id: "search-hint", className: "field-hint" },
      "Words, \"two words\", -without, from:ada, in:general, before:2026-11-01"),
    status, list, element("div", { className: "card-buttons" }, more, close));
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener("keydown", moveIntoList);
  document.body.append(dialog);

  /** The query whose results are shown, and the cursor of its next page. */
  let shown = { q: "", next: null };

  function search(event) {
    event.preventDefault();
    list.replaceChildren();
    show(input.value.trim());
  }

  async function showMore() {
    const { lastElementChild: last } = list;
    await show(shown.q, shown.next);
    last.nextElementSibling?.firstElementChild.focus();
  }

  async function show(q, cursor) {
    const current = (shown = { q, next: null });
    more.hidden = true;
    status.textContent = "Searching…";
    let page;
    try {
      page = await find(q, cursor);
    } catch (problem) {
      if (shown !== current) return;
      status.textContent = reason(problem);
      if (cursor) {
        current.next = cursor;
        more.hidden = false;
        more.focus();
      }
      return;
    }
    // The answer to an earlier query may be late.
    if (shown !== current) return;
    current.next = page.next;
    list.append(...page.results.map(row));
    more.hidden = page.next === null;
    const count = list.children.length;
    const number = count === 1 ? "1 result" : `${count} results`;
    status.textContent = count === 0 ? "Nothing found." : page.next === null ? `${number}.` : `The first ${number}.`;
  }

  function reason({ status: code, message }) {
    if (code === 404 || code === 503) return UNAVAILABLE;
    return message.replace(/^`q`/, "Your query").replaceAll("`", "");
  }

  function row(result) {
    const channel = state.channels.get(result.channel_id);
    const place = channel ? titleOf(channel) : `#${result.channel_name}`;
    const author = nicknameOf(result.user_id, result.nickname);
    const kind = result.thread_id ? ", in a thread" : "";
    const time = fullTime(Date.parse(result.created_at) / 1000);
    const text = result.excerpt.map((segment) => (segment.marked ? element("mark", {}, segment.text) : segment.text));
    return element("li", {}, element("button", {
      type: "button",
      className: "search-result",
      "data-found-id": result.message_id,
      onclick: () => {
        dialog.close();
        goToResult(result);
      },
    }, element("span", { className: "choice-note" }, `${author} in ${place}${kind}, ${time}`),
    element("span", { className: "search-text" }, ...text)));
  }

  function moveIntoList(event) {
    if (event.key !== "ArrowDown" || event.target !== input || list.children.length === 0) return;
    event.preventDefault();
    list.firstElementChild.firstElementChild.focus();
  }

  function moveFocus(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    const other = event.target.closest("li")[step];
    (other ? other.firstElementChild : step === "previousElementSibling" ? input : event.target).focus();
  }

  return () => {
    dialog.showModal();
    input.select();
  };
}
