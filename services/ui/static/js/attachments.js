// The files of a composer: pasted, dropped or chosen, and shown until they are sent. They belong to the draft of their
// channel or thread, but only in this window.

import { element, icon } from "./dom.js";
import { bytesOf } from "./files.js";
import { photoOf } from "./photos.js";
import { session } from "./session.js";
import { changed } from "./state.js";

// The server has the same limits.
export const FILES_MAX = 4;
const FILE_BYTES_MAX = 1_048_576;

/** Draft key to files: {id, name, blob}. `id` is the idempotency key of the upload. */
const attached = new Map();
/** The draft keys of files that are being copied. A photo needs some seconds at most. */
const attaching = [];

export const attachmentsOf = (key) => attached.get(key) ?? [];

export const isAttaching = (key) => attaching.includes(key);

/** Moves the files out of the composer. */
export function takeAttachments(key) {
  const files = attachmentsOf(key);
  attached.delete(key);
  changed("draft");
  return files;
}

/** Called at a sign-out. */
export function forgetAttachments() {
  attached.clear();
  changed("draft");
}

/** Adds files that can be sent. Returns why others cannot. */
export function attach(key, files) {
  const present = [...attachmentsOf(key)];
  const problems = [];
  for (const { id = crypto.randomUUID(), name, blob } of files) {
    if (present.length >= FILES_MAX) problems.push(`${name} was not added: a message has at most ${FILES_MAX} files.`);
    else if (blob.size > FILE_BYTES_MAX) {
      const [size, max] = [blob.size, FILE_BYTES_MAX].map(bytesOf);
      problems.push(`${name} was not added: it has ${size}, and a file at most ${max}.`);
    } else if (blob.size === 0) problems.push(`${name} was not added: it is empty, a folder, or cannot be read.`);
    else present.push({ id, name, blob });
  }
  attached.set(key, present);
  changed("draft");
  return problems.join(" ");
}

const carriesFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");

// A file that is dropped beside a composer would replace the page.
for (const name of ["dragover", "drop"]) {
  addEventListener(name, (event) => carriesFiles(event) && event.preventDefault());
}

// Only a copy can still be read when the file on the disk has changed.
async function copyOf(file) {
  const name = file.name || "file";
  const photo = await photoOf(file, name, FILE_BYTES_MAX);
  if (photo) return photo;
  // `attach` refuses it.
  if (file.size > FILE_BYTES_MAX) return { name, blob: file };
  // A folder, for example, cannot be read.
  const bytes = await file.arrayBuffer().catch(() => new ArrayBuffer(0));
  return { name, blob: new Blob([bytes], { type: file.type }) };
}

/**
 * Connects the ways in which files get into a composer. `place` also accepts what is dropped. `keyOf` returns the draft
 * key, or null; `refused` receives why a file was not added.
 */
export function openAttachments(form, place, { keyOf, refused }) {
  const field = form.querySelector("textarea");
  const input = element("input", { type: "file", multiple: true, hidden: true, "aria-hidden": "true", tabIndex: -1 });
  // The list of the files is read at once, because it is empty after the event.
  const add = async (files) => {
    const key = keyOf();
    if (key === null) return;
    const { nickname } = session;
    const copies = [];
    attaching.push(key);
    // One after the other: a decoded photo needs four bytes for each pixel.
    for (const file of [...files]) copies.push(await copyOf(file));
    attaching.splice(attaching.indexOf(key), 1);
    // Another user may have signed in meanwhile.
    if (copies.length > 0 && session.nickname === nickname) refused(attach(key, copies));
  };
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
    field.focus();
  });
  field.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    // Programs for text and tables also copy a picture of it.
    if (files.length === 0 || types.includes("text/plain")) return;
    event.preventDefault();
    add(files);
  });
  const hasFiles = (event) => carriesFiles(event) && keyOf() !== null && !form.closest("[hidden]");
  place.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    form.classList.add("is-target");
  });
  place.addEventListener("dragleave", () => form.classList.remove("is-target"));
  place.addEventListener("drop", (event) => {
    form.classList.remove("is-target");
    if (!hasFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
    field.focus();
  });
  const list = element("ul", { className: "attachments", hidden: true, "aria-label": "Files of this message" });
  form.prepend(list, input);
  form.querySelector("[role=toolbar]").append(element("button", {
    type: "button", title: "Attach files", "aria-label": "Attach files", tabIndex: -1, className: "attach",
    onclick: () => input.click(),
  }, icon("attach")));
  return () => show(list, keyOf(), field);
}

function show(list, key, field) {
  const files = attachmentsOf(key);
  list.hidden = files.length === 0;
  list.replaceChildren(...files.map((file) => element("li", { className: "attachment" },
    thumbnail(file),
    element("span", { className: "attachment-name" }, `${file.name} (${bytesOf(file.blob.size)})`),
    element("button", {
      type: "button", className: "attachment-remove", title: `Remove ${file.name}`, "aria-label": `Remove ${file.name}`,
      onclick: () => {
        attached.set(key, attachmentsOf(key).filter(({ id }) => id !== file.id));
        changed("draft");
        field.focus();
      },
    }, icon("close")))));
}

/** The picture of a file that is not sent yet; null for others than images. */
export function thumbnail({ blob }) {
  if (!/^image\/(png|jpeg|gif|webp)$/.test(blob.type)) return null;
  const src = URL.createObjectURL(blob);
  const revoke = () => URL.revokeObjectURL(src);
  return element("img", { className: "thumbnail", alt: "", onload: revoke, onerror: revoke, src });
}
