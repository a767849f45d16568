//! An entry of the ring buffer: the frames of one message, which all connections share.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::{Frame, with_cursor};
use crate::{
    audience::{Audience, Recipient},
    cursor::{Cursor, STREAMS},
};

/// The `updated_model` frames of a message, and where in the streams the message is.
#[derive(Debug)]
pub struct Entry {
    pub stream: usize,
    /// The sequences of the instance's cursor after it had read the message.
    pub sequences: [u64; STREAMS],
    /// Stream and sequence of the duplicate: the same version of the entity in another stream, which was read later.
    pub duplicate: Option<(usize, u64)>,
    texts: Vec<Text>,
}

/// A frame for some clients.
#[derive(Debug)]
pub struct Text {
    audience: Audience,
    /// With the instance's cursor.
    pub frame: Utf8Bytes,
    /// The index in `frame` where the cursor begins.
    cursor_at: usize,
}

impl Entry {
    /// Returns the entry for the newest message of `stream`. `cursor` is the instance's cursor after that message.
    pub fn new(stream: usize, frames: &[Frame], cursor: &Cursor) -> Self {
        let text = |Frame { audience, prefix }: &Frame| Text {
            audience: *audience,
            frame: with_cursor(prefix, cursor).into(),
            cursor_at: prefix.len(),
        };
        let texts = frames.iter().map(text).collect();
        Self { stream, sequences: cursor.sequences(), duplicate: None, texts }
    }

    /// Returns the sequence of the message in its stream.
    pub fn sequence(&self) -> u64 {
        self.sequences[self.stream]
    }

    /// Returns the frame that this client receives; `None` if the message is not for it.
    pub fn text_for(&self, recipient: &Recipient) -> Option<&Text> {
        self.texts.iter().find(|text| recipient.is_in(text.audience))
    }

    /// Returns the bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.frame.len()).sum()
    }
}

impl Text {
    /// Returns the frame with a client's cursor instead of the instance's.
    pub fn with_cursor(&self, cursor: &Cursor) -> Utf8Bytes {
        with_cursor(&self.frame[..self.cursor_at], cursor).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_frame_can_be_replaced() {
        let frame = Frame { audience: Audience::Everyone, prefix: r#"{"cursor":""#.to_owned() };
        let entry = Entry::new(0, &[frame], &Cursor::default());
        let mut cursor = Cursor::default();
        cursor.0[1].sequence = 5;
        let text = entry.text_for(&Recipient::Version1).unwrap();
        assert_eq!(text.with_cursor(&cursor).as_str(), r#"{"cursor":"0-0-0.0-5-0"}"#);
    }
}
