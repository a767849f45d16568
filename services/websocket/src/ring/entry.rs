//! An entry of the ring buffer: one frame, shared by all connections.

use axum::extract::ws::Utf8Bytes;

use super::frame::with_cursor;
use crate::cursor::{Cursor, STREAMS};

/// An `updated_model` frame, and the position of the message that it was made from.
#[derive(Debug)]
pub struct Entry {
    pub stream: usize,
    /// The sequences of this instance's cursor after the message.
    pub sequences: [u64; STREAMS],
    /// Stream and sequence of a duplicate: the same version of the entity, read from another stream later.
    pub duplicate: Option<(usize, u64)>,
    /// The whole frame, with this instance's cursor.
    pub text: Utf8Bytes,
    /// Where in `text` the cursor begins.
    cursor_at: usize,
}

impl Entry {
    /// Returns the entry of the last message before `cursor`, which is one of `stream`.
    pub fn new(stream: usize, prefix: &str, cursor: &Cursor) -> Self {
        let text = with_cursor(prefix, cursor).into();
        Self { stream, sequences: cursor.sequences(), duplicate: None, text, cursor_at: prefix.len() }
    }

    pub fn sequence(&self) -> u64 {
        self.sequences[self.stream]
    }

    /// Returns the frame with another cursor, for a client whose cursor differs from this instance's.
    pub fn text_with(&self, cursor: &Cursor) -> Utf8Bytes {
        with_cursor(&self.text[..self.cursor_at], cursor).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_frame_can_be_replaced() {
        let entry = Entry::new(0, r#"{"cursor":""#, &Cursor::default());
        let mut cursor = Cursor::default();
        cursor.0[1].sequence = 5;
        assert_eq!(entry.text_with(&cursor).as_str(), r#"{"cursor":"0-0-0.0-5-0"}"#);
    }
}
