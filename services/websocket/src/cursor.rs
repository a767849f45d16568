//! The cursor: a client's offset in each stream, and its text form `<incarnations>.<sequences>`.
//!
//! Example: `6a1b-0-6a1c.17-0-4` is sequence 17 of the first stream and sequence 4 of the third one; the second stream
//! does not exist yet. JetStream numbers the messages, so a cursor is valid at every instance. When NATS loses its
//! data, a stream begins at sequence 1 again. It then has another incarnation, so a cursor of the old stream is
//! recognised.

use std::{fmt, sync::Arc};

use flack_catalogue::Service;

/// The services whose streams are read. In this crate, `stream: usize` is an index into this list.
pub const SOURCES: &[&str] = Service::named("websocket").reads_events_of;
pub const STREAMS: usize = SOURCES.len();

/// The incarnation of a stream that does not exist yet, in the text form.
const ABSENT: &str = "0";

/// A position in a stream: the last message that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offset {
    /// `None`: the stream does not exist yet. Shared, because each connection keeps a cursor.
    pub incarnation: Option<Arc<str>>,
    pub sequence: u64,
}

/// One offset per stream, in the order of [`SOURCES`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub [Offset; STREAMS]);

impl Cursor {
    /// Parses the text form; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnations, sequences) = text.split_once('.')?;
        let (mut incarnations, mut sequences) = (incarnations.split('-'), sequences.split('-'));
        let mut cursor = Self::default();
        for offset in &mut cursor.0 {
            let incarnation = incarnations.next()?;
            if incarnation.is_empty() || !incarnation.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            offset.incarnation = (incarnation != ABSENT).then(|| incarnation.into());
            offset.sequence = sequences.next()?.parse().ok()?;
        }
        (incarnations.next().is_none() && sequences.next().is_none()).then_some(cursor)
    }

    pub fn sequences(&self) -> [u64; STREAMS] {
        std::array::from_fn(|stream| self.0[stream].sequence)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, offset) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "-" };
            write!(f, "{separator}{}", offset.incarnation.as_deref().unwrap_or(ABSENT))?;
        }
        for (index, offset) in self.0.iter().enumerate() {
            let separator = if index == 0 { '.' } else { '-' };
            write!(f, "{separator}{}", offset.sequence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_offset_per_stream_in_the_order_of_the_catalogue() {
        let mut cursor = Cursor::default();
        cursor.0[0] = Offset { incarnation: Some("6a1b".into()), sequence: 17 };
        cursor.0[2] = Offset { incarnation: Some("6a1c".into()), sequence: u64::MAX };
        assert_eq!(SOURCES, ["users", "messages", "monolith"]);
        assert_eq!(cursor.to_string(), "6a1b-0-6a1c.17-0-18446744073709551615");
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
    }

    #[test]
    fn text_that_is_not_a_cursor_is_refused() {
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
