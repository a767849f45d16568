// The files of stored messages: images in their size, other files as a button that saves them. A file is loaded with
// the token, and shown from memory.

import * as api from "./api.js";
import { byId, element } from "./dom.js";
import { session } from "./session.js";
import { showNotice } from "./view-settings.js";

// The size of an image in the list, in pixels.
const WIDTH_MAX = 360;
const HEIGHT_MAX = 280;
/** Images in memory: those that were loaded longest ago are loaded again. */
const IMAGES_MAX = 60;

/** File id to the promise of its address in memory. */
const loadedImages = new Map();

export function bytesOf(bytes) {
  if (bytes < 1024) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const [amount, unit] = bytes < 1_048_576 ? [bytes / 1024, "KiB"] : [bytes / 1_048_576, "MiB"];
  return `${amount.toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

// Only images that are near the window are loaded.
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) load(target);
}, { rootMargin: "300px", scrollMargin: "300px" });

/** What `load` needs, by the element of an image. */
const waiting = new WeakMap();

async function load(picture) {
  const wanted = waiting.get(picture);
  if (!wanted) return;
  near.unobserve(picture);
  waiting.delete(picture);
  const [messageId, file] = wanted;
  try {
    picture.querySelector("img").src = await imageOf(messageId, file);
  } catch (problem) {
    const reason = `${file.name} was not loaded. ${problem.message}`;
    picture.replaceChildren(element("span", { className: "file-problem" }, reason));
    const label = picture.getAttribute("aria-label");
    picture.setAttribute("aria-label", reason);
    picture.onclick = () => {
      picture.setAttribute("aria-label", label);
      picture.replaceChildren(imageElement(file));
      picture.onclick = () => enlarge(messageId, file);
      waiting.set(picture, wanted);
      load(picture);
    };
  }
}

function imageOf(messageId, file) {
  if (!loadedImages.has(file.id)) {
    const loading = api.getFile(session.token, messageId, file.id).then((blob) => URL.createObjectURL(blob));
    loading.catch(() => loadedImages.delete(file.id));
    loadedImages.set(file.id, loading);
    if (loadedImages.size > IMAGES_MAX) {
      const [oldest, url] = loadedImages.entries().next().value;
      loadedImages.delete(oldest);
      url.then(URL.revokeObjectURL);
    }
  }
  return loadedImages.get(file.id);
}

const imageElement = ({ name }) => element("img", { alt: name, decoding: "async" });

/** The names of the files of a message, for places without its text. */
export const fileNames = ({ files = [] }) => files.map(({ name }) => name).join(", ");

/** The elements of the files of a message. */
export function filesElement({ id, files }) {
  return element("div", { className: "files" },
    ...files.map((file) => (file.width ? image(id, file) : other(id, file))));
}

function image(messageId, file) {
  const scale = Math.min(1, WIDTH_MAX / file.width, HEIGHT_MAX / file.height);
  const picture = element("button", {
    type: "button", className: "file-image", title: `${file.name} (${bytesOf(file.bytes)})`,
    "data-key": `file ${file.id}`, "aria-label": `Enlarge ${file.name}`, onclick: () => enlarge(messageId, file),
  }, imageElement(file));
  // Known before the image is loaded, so that nothing moves then.
  picture.style.setProperty("--width", `${Math.max(24, Math.round(file.width * scale))}px`);
  picture.style.setProperty("--ratio", `${file.width} / ${file.height}`);
  waiting.set(picture, [messageId, file]);
  near.observe(picture);
  return picture;
}

function other(messageId, file) {
  return element("button", {
    type: "button", className: "file-other", "data-key": `file ${file.id}`, onclick: () => save(messageId, file),
    title: `Save ${file.name}`,
  }, file.name, element("span", { className: "file-size" }, bytesOf(file.bytes)));
}

/** What the dialog shows. Another image may be enlarged while one is loaded. */
let enlarged = null;

async function enlarge(messageId, file) {
  const current = (enlarged = {});
  const picture = byId("picture-image");
  picture.removeAttribute("src");
  picture.alt = file.name;
  byId("picture-name").textContent = `${file.name} (${bytesOf(file.bytes)})`;
  byId("picture-save").onclick = () => save(messageId, file);
  byId("picture").showModal();
  try {
    const url = await imageOf(messageId, file);
    if (enlarged === current) picture.src = url;
  } catch (problem) {
    if (enlarged === current) byId("picture-name").textContent = problem.message;
  }
}

async function save(messageId, file) {
  try {
    const blob = await api.getFile(session.token, messageId, file.id);
    const href = URL.createObjectURL(blob);
    element("a", { href, download: file.name }).click();
    // After the browser has begun to read it.
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  } catch (problem) {
    showNotice(`${file.name} was not loaded. ${problem.message}`);
  }
}
