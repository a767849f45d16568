//! Where a client stands in the streams: "<epoch>.<position>", one part of each for every stream.
//!
//! The position alone would lie after NATS lost its data: numbers begin anew. The epoch names the incarnation of each
//! stream, so that a cursor of another one is recognised. Every instance speaks of the same streams in the same numbers:
//! a cursor of one is good at any other.

use std::fmt;

/// The streams that sockets are fed from, in the order in which cursors speak of them.
pub const OWNERS: [&str; 3] = ["users", "messages", "monolith"];
pub const STREAMS: usize = OWNERS.len();

/// In a cursor, the incarnation of a stream that was not there yet.
const ABSENT: &str = "0";

/// How far one stream was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `None`: there was no such stream.
    pub incarnation: Option<String>,
    pub sequence: u64,
}

/// How far all streams were delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub [Place; STREAMS]);

impl Default for Cursor {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Place { incarnation: None, sequence: 0 }))
    }
}

impl Cursor {
    /// `None` for anything that we did not write.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, position) = text.split_once('.')?;
        let (mut epoch, mut position) = (epoch.split('-'), position.split('-'));
        let mut cursor = Self::default();
        for place in &mut cursor.0 {
            let incarnation = epoch.next()?;
            if incarnation.is_empty() || !incarnation.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            place.incarnation = (incarnation != ABSENT).then(|| incarnation.to_owned());
            place.sequence = position.next()?.parse().ok()?;
        }
        (epoch.next().is_none() && position.next().is_none()).then_some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "-" };
            write!(f, "{between}{}", place.incarnation.as_deref().unwrap_or(ABSENT))?;
        }
        for (index, place) in self.0.iter().enumerate() {
            let between = if index == 0 { '.' } else { '-' };
            write!(f, "{between}{}", place.sequence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let mut cursor = Cursor::default();
        cursor.0[0] = Place { incarnation: Some("6a1b".to_owned()), sequence: 17 };
        cursor.0[2] = Place { incarnation: Some("6a1c".to_owned()), sequence: u64::MAX };
        assert_eq!(cursor.to_string(), "6a1b-0-6a1c.17-0-18446744073709551615");
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            ".",
            "1-2-3",
            "1-2.1-2",
            "1-2-3.1-2",
            "1-2-3.1-2-3-4",
            "1-2-3-4.1-2-3",
            "1-2-x.1-2-3",
            "1--3.1-2-3",
            "1-2-3.1-2--3",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
