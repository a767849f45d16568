//! An entry of the ring buffer: one frame that all connections share.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::with_cursor;
use crate::cursor::{Cursor, STREAMS};

/// An `updated_model` frame, and where in the streams its message is.
#[derive(Debug)]
pub struct Entry {
    pub stream: usize,
    /// The sequences of the instance's cursor after it had read the message.
    pub sequences: [u64; STREAMS],
    /// Stream and sequence of the duplicate: the same version of the entity in another stream, which was read later.
    pub duplicate: Option<(usize, u64)>,
    /// The frame, with the instance's cursor.
    pub text: Utf8Bytes,
    /// The index in `text` where the cursor begins.
    cursor_at: usize,
}

impl Entry {
    /// Returns the entry for the newest message of `stream`. `cursor` is the instance's cursor after that message.
    pub fn new(stream: usize, prefix: &str, cursor: &Cursor) -> Self {
        let text = with_cursor(prefix, cursor).into();
        Self { stream, sequences: cursor.sequences(), duplicate: None, text, cursor_at: prefix.len() }
    }

    /// Returns the sequence of the message in its stream.
    pub fn sequence(&self) -> u64 {
        self.sequences[self.stream]
    }

    /// Returns the frame with a client's cursor instead of the instance's.
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
