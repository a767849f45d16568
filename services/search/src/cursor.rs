//! The page cursor of a search: a position in its results, and the newest message when it began.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use flack_api::Problem;

/// The first byte. Cursors of another format begin with another byte.
const FORMAT: u8 = 1;

/// The last result of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cursor {
    /// Newer messages are in none of the pages.
    pub newest_id: i64,
    pub rank: f32,
    pub id: i64,
}

impl Cursor {
    pub fn encode(self) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.newest_id.to_be_bytes());
        bytes.extend(self.rank.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// 400 for a text that no search has returned.
    pub fn decode(text: &str) -> Result<Self, Problem> {
        let decode = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (newest_id, rest) = bytes.strip_prefix(&[FORMAT])?.split_first_chunk()?;
            let (rank, id) = rest.split_first_chunk()?;
            Some(Self {
                newest_id: i64::from_be_bytes(*newest_id),
                rank: Some(f32::from_be_bytes(*rank)).filter(|rank| rank.is_finite())?,
                id: i64::from_be_bytes(id.try_into().ok()?),
            })
        };
        decode().ok_or_else(|| Problem::bad_request("`cursor` is no cursor of a search; use `next` of a page"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_a_damaged_one_is_refused() {
        let cursor = Cursor { newest_id: 4711, rank: 0.1, id: i64::MAX };
        let text = cursor.encode();
        assert_eq!(Cursor::decode(&text), Ok(cursor));
        let no_number = Cursor { rank: f32::NAN, ..cursor }.encode();
        for damaged in ["", "AAAA", &text[1..], &text[..27], &format!("{text}AAAA"), no_number.as_str()] {
            assert!(Cursor::decode(damaged).is_err(), "{damaged}");
        }
    }
}
