//! Page cursors: an id as a text that clients do not parse, so that the order of a list can change later. REST handlers
//! and websocket frames make the same ones.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The first byte of a page cursor. Cursors of another format begin with another byte.
const FORMAT: u8 = 1;

/// Returns the page cursor of an id.
pub fn page_cursor(id: i64) -> String {
    let mut bytes = vec![FORMAT];
    bytes.extend(id.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the id of a page cursor, or `None` for another text.
pub fn id_of_page_cursor(cursor: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    Some(i64::from_be_bytes(bytes.strip_prefix(&[FORMAT])?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_an_id_and_a_damaged_one_has_none() {
        for id in [i64::MIN, 0, 1, 4711, i64::MAX] {
            assert_eq!(id_of_page_cursor(&page_cursor(id)), Some(id));
        }
        let cursor = page_cursor(1);
        for damaged in ["", "1", "AAAA", &cursor[1..], &cursor[..11], &format!("{cursor}AAAA"), "AgAAAAAAAAAB"] {
            assert_eq!(id_of_page_cursor(damaged), None, "{damaged}");
        }
    }
}
