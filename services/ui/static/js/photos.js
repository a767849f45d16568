// Photos, before they are attached. A photo of a phone is larger than a file may be, and contains where it was taken
// (Exif). The browser encodes its pixels again, turned as they are shown, and nothing else of it is kept.

/** A larger file is not decoded. */
const SOURCE_BYTES_MAX = 50 * 1_048_576;
/** Each attempt: the longest side in pixels, and the quality. */
const ATTEMPTS = [[2560, 0.85], [2560, 0.75], [2048, 0.75], [1600, 0.7], [1280, 0.6]];

/**
 * Returns {name, blob} without metadata and of at most `bytesMax`. Null for what stays as it is: a PNG that is small
 * enough, because a screenshot would lose details; everything that is no photo; and what cannot be decoded.
 */
export async function photoOf(file, name, bytesMax) {
  try {
    const source = await typeOf(file);
    if (!source || file.size > SOURCE_BYTES_MAX || (source === "image/png" && file.size <= bytesMax)) return null;
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    // A PNG may be transparent.
    let type = source === "image/jpeg" ? source : "image/webp";
    for (const [side, quality] of ATTEMPTS) {
      const blob = await encode(bitmap, side, { type, quality });
      if (blob.size <= bytesMax) return { name: blob.type === source ? name : renamed(name, blob.type), blob };
      // A browser that cannot encode WebP makes a PNG, in which a photo is too large.
      type = blob.type === type ? type : "image/jpeg";
    }
  } catch {
    // It is damaged, or of a kind that this browser does not know.
  }
  return null;
}

/** The content decides, as on the server. Null also for an animation, of which one picture would be left. */
async function typeOf(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 64).arrayBuffer()));
  if (head.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (head.startsWith("\x89PNG")) return head.includes("acTL") ? null : "image/png";
  if (!head.startsWith("RIFF") || !head.startsWith("WEBP", 8)) return null;
  const isAnimated = head.startsWith("VP8X", 12) && (head.charCodeAt(20) & 2) !== 0;
  return isAnimated ? null : "image/webp";
}

function encode(bitmap, sideMax, options) {
  const scale = Math.min(1, sideMax / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  // What is transparent would be black.
  if (options.type === "image/jpeg") {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas.convertToBlob(options);
}

const renamed = (name, type) => `${name.replace(/\.\w+$/, "")}.${type.split("/")[1]}`;
