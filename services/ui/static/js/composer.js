// A composer, of the channel or of a thread. Enter sends, Shift+Enter inserts a line break. The draft is kept until it
// is sent: across a page reload and across an expired session.

import { attachmentsOf, isAttaching, openAttachments, takeAttachments } from "./attachments.js";
import { checkLength } from "./limit.js";
import { openMarkdownBar } from "./markdown-bar.js";
import { openMentionList } from "./mention-list.js";
import { openPreview } from "./preview.js";
import { session } from "./session.js";
import { on } from "./state.js";
import { startEditingLast } from "./view-edit.js";

export class Composer {
  #form;
  #field;
  #note;
  /** Where the draft is stored; null: nothing can be written. */
  #key = null;

  #showAttachments;
  #closePreview;

  /**
   * `place` is `channel` or `thread`. `send` receives a source and files; `typed` is called after each change that
   * leaves a text.
   */
  constructor(form, note, { place, send, typed }) {
    this.#form = form;
    this.#field = form.querySelector("textarea");
    this.#note = note;
    const field = this.#field;
    // First, so that it gets the keys while it is open.
    openMentionList(field);
    openMarkdownBar(form, field);
    this.#showAttachments = openAttachments(form, form.closest(".talk"), {
      keyOf: () => this.#key,
      refused: (reason) => {
        checkLength(field, note);
        if (!reason) return;
        note.textContent = reason;
        note.classList.add("is-problem");
      },
    });
    this.#closePreview = openPreview(form, field);
    field.addEventListener("input", () => {
      checkLength(field, note);
      session.setDraft(this.#key, field.value);
      if (field.value) typed();
    });
    field.addEventListener("keydown", (event) => {
      // Input methods (Japanese, for example) also end a composed word with Enter.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      } else if (event.key === "ArrowUp" && field.value === "" && startEditingLast(place)) {
        event.preventDefault();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const source = field.value.trim();
      field.focus();
      if (isAttaching(this.#key)) {
        note.textContent = "Not sent: the files are not attached yet.";
        return;
      }
      if (this.#key === null || (!source && attachmentsOf(this.#key).length === 0)) return;
      if (!checkLength(field, note)) {
        note.textContent = `Not sent: ${note.textContent}`;
        return;
      }
      this.clear();
      send(source, takeAttachments(this.#key));
    });
    // The text of an entry of the outbox was moved back.
    on(["draft"], () => {
      this.#showAttachments();
      if (this.#key === null || field.value === session.draftOf(this.#key)) return;
      this.show(this.#key);
      this.focus();
    });
  }

  /** Shows the draft of a channel or of a thread. */
  show(key) {
    this.#key = key;
    this.#field.value = key === null ? "" : session.draftOf(key);
    checkLength(this.#field, this.#note);
    this.#showAttachments();
    this.#closePreview();
  }

  clear() {
    this.#field.value = "";
    this.#closePreview();
    session.setDraft(this.#key, "");
    checkLength(this.#field, this.#note);
  }

  focus() {
    this.#field.focus();
  }
}
