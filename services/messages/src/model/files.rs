//! Files of messages: names, types, limits, and problems.

use flack_api::{FILE_BYTES_MAX, Problem};
use flack_common::text::{self, is_invisible};
use imagesize::ImageType;

/// `file_ids` of a new message. The API document has the same number.
pub const FILES_PER_MESSAGE_MAX: usize = 4;

/// All files of a user, also those that no message has.
pub const FILES_PER_USER_MAX: i64 = 1_000;
pub const FILE_BYTES_PER_USER_MAX: i64 = 64 * 1_048_576;

/// The table of all files on the disk. Files do not fill it: without space nobody could post anything.
pub const TABLE_BYTES_MAX: i64 = 16 * 1_024 * 1_048_576;

/// Files of a user in 10 s: those of two messages. Deleted ones count, too.
pub const FILE_BYTES_PER_10_SECONDS_MAX: u32 = 8 * 1_048_576;

/// A file without a message is deleted when it is older.
pub const UNUSED_FILE_SECONDS_MAX: i32 = 3_600;

/// JSON of a file in a message, which every client receives: a name with escaped characters, and numbers.
pub const FILE_MODEL_BYTES_MAX: usize = 1_024;

/// A larger image is a file as any other: a browser needs four bytes for each pixel.
const IMAGE_PIXELS_MAX: usize = 40_000_000;

const NAME_CHARACTERS_MAX: usize = 120;

/// The type of everything that is not shown in the page.
const OTHER: &str = "application/octet-stream";

/// What the content of a file is. The name does not decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sniffed {
    pub kind: &'static str,
    /// Of an image, in pixels.
    pub size: Option<(i32, i32)>,
}

/// Finds out the type. Images are those that every browser shows and that contain no scripts: not SVG.
pub fn sniff(content: &[u8]) -> Sniffed {
    let kind = match imagesize::image_type(content) {
        Ok(ImageType::Png) => "image/png",
        Ok(ImageType::Jpeg) => "image/jpeg",
        Ok(ImageType::Gif) => "image/gif",
        Ok(ImageType::Webp) => "image/webp",
        _ => OTHER,
    };
    let size = imagesize::blob_size(content).ok().filter(|_| kind != OTHER).and_then(|size| {
        let is_shown = size.width > 0 && size.height > 0 && size.width.saturating_mul(size.height) <= IMAGE_PIXELS_MAX;
        Some((i32::try_from(size.width).ok()?, i32::try_from(size.height).ok()?)).filter(|_| is_shown)
    });
    Sniffed { kind: if size.is_some() { kind } else { OTHER }, size }
}

/// Returns the name under which a browser may save the file: without folders and without characters that are not seen
/// or that change the direction of the text. The extension of an image is that of its type.
pub fn safe_name(name: &str, sniffed: Sniffed) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|&character| !is_invisible(character)).take(NAME_CHARACTERS_MAX).collect();
    let name = text::trim(&name).trim_start_matches('.');
    let name = if name.is_empty() { "file" } else { name };
    let extensions: &[&str] = match sniffed.kind {
        "image/png" => &["png"],
        "image/jpeg" => &["jpg", "jpeg"],
        "image/gif" => &["gif"],
        "image/webp" => &["webp"],
        _ => return name.to_owned(),
    };
    let has_extension = name
        .rsplit_once('.')
        .is_some_and(|(_, extension)| extensions.iter().any(|expected| expected.eq_ignore_ascii_case(extension)));
    if has_extension { name.to_owned() } else { format!("{name}.{}", extensions[0]) }
}

/// Returns the header `Content-Disposition` (RFC 6266). Only images are shown; everything else is saved.
pub fn disposition(kind: &str, name: &str) -> String {
    let way = if kind == OTHER { "attachment" } else { "inline" };
    let encoded: String = name.bytes().map(encoded).collect();
    format!("{way}; filename*=UTF-8''{encoded}")
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

pub fn file_is_empty() -> Problem {
    Problem::bad_request(format!("the file is empty; a file has 1 to {FILE_BYTES_MAX} bytes"))
}

pub fn nul_in_name() -> Problem {
    Problem::bad_request("`name` contains a NUL character (U+0000), which cannot be stored; remove it")
}

pub fn no_such_file(id: i64) -> Problem {
    Problem::not_found(format!("the message has no file {id}; check its id"))
}

pub fn cannot_attach() -> Problem {
    Problem::not_found(
        "`file_ids` names a file that the caller has not stored for this channel, or that a message has already; \
         store it again",
    )
}

pub fn too_many_in_message() -> Problem {
    Problem::bad_request(format!("`file_ids` has to be a list of at most {FILES_PER_MESSAGE_MAX} different values"))
}

pub fn source_is_missing() -> Problem {
    Problem::bad_request("`source` is missing; only a message with files has none")
}

pub fn too_many_of_user() -> Problem {
    Problem::conflict(
        "too-many-files",
        format!(
            "with this file you would have more than {FILES_PER_USER_MAX} files or {FILE_BYTES_PER_USER_MAX} bytes, or \
             all users together more than {TABLE_BYTES_MAX} bytes, which is the limit; delete messages with files first"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIF: &[u8] = b"GIF89a\x02\x00\x03\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,";

    #[test]
    fn the_content_decides_the_type_and_scripts_are_no_images() {
        assert_eq!(sniff(GIF), Sniffed { kind: "image/gif", size: Some((2, 3)) });
        let huge = [b"GIF89a\xff\xff\xff\xff".as_slice(), &GIF[10..]].concat();
        for other in [
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".as_slice(),
            b"<!doctype html><script>alert(1)</script>",
            b"GIF89a<script>",
            b"\x89PNG\r\n\x1a\n",
            b"x",
            &huge,
        ] {
            assert_eq!(sniff(other), Sniffed { kind: OTHER, size: None }, "{other:?}");
        }
    }

    #[test]
    fn a_name_has_no_folders_no_hidden_characters_and_the_extension_of_an_image() {
        let (image, other) = (sniff(GIF), sniff(b"x"));
        for (name, sniffed, expected) in [
            ("cat.gif", image, "cat.gif"),
            ("cat.GIF", image, "cat.GIF"),
            ("page.html", image, "page.html.gif"),
            ("../../etc/passwd", other, "passwd"),
            ("C:\\x\\a.txt", other, "a.txt"),
            ("exe\u{202e}gnp.exe", other, "exegnp.exe"),
            (" .. ", other, "file"),
            ("\r\n\t", other, "file"),
            ("résumé (1).pdf", other, "résumé (1).pdf"),
        ] {
            assert_eq!(safe_name(name, sniffed), expected, "{name:?}");
        }
        assert_eq!(safe_name(&"x".repeat(200), other).len(), NAME_CHARACTERS_MAX);
        assert_eq!(disposition(OTHER, "a\"b é.txt"), "attachment; filename*=UTF-8''a%22b%20%C3%A9.txt");
        assert_eq!(disposition("image/png", "a.png"), "inline; filename*=UTF-8''a.png");
    }
}
