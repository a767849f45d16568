//! The types of a stream: its name, its messages, and where reading starts.

use bytes::Bytes;

use super::journal_row::is_replay;

/// How long journals, streams and inboxes keep events: equally long, so that a replay can fill every gap.
pub const JOURNAL_RETENTION_DAYS: i32 = 14;

/// The header of a message that is published again.
pub(super) const REPEATED: &str = "Flack-Repeated";

/// The buffer of a subscription to signals; a slow subscriber loses the oldest ones.
pub(super) const SIGNALS_BUFFERED_MAX: usize = 256;

/// Returns the name of an owner's stream: `USERS` for `users`.
pub fn stream_name(owner: &str) -> String {
    owner.to_ascii_uppercase()
}

/// A message that is not published yet.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub subject: String,
    pub message_id: String,
    /// Whether it is published again because the stream has lost it.
    pub is_repeated: bool,
    pub payload: Bytes,
}

/// The end of a stream.
#[derive(Debug, Clone)]
pub(super) struct StreamEnd {
    pub incarnation: String,
    /// The sequence of the last message, or 0.
    pub last: u64,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct StreamMessage {
    pub sequence: u64,
    pub subject: String,
    /// `Nats-Msg-Id`; absent when the publisher was not a relay.
    pub message_id: Option<String>,
    /// Whether it was published again because the stream had lost it: subscribers may have received it already.
    pub is_repeated: bool,
    pub payload: Bytes,
}

impl StreamMessage {
    /// Whether a replay has published this message: the stream had the event before, or a projection is being rebuilt.
    pub fn is_replay(&self) -> bool {
        self.message_id.as_deref().is_some_and(is_replay)
    }
}

/// The offset at which a subscription starts.
#[derive(Debug, Clone)]
pub enum StartOffset {
    /// The oldest message that the stream still has.
    Earliest,
    /// The last messages, at most this number.
    Last(u64),
    /// After `sequence`; at the beginning of the stream if its incarnation has changed.
    After { incarnation: String, sequence: u64 },
}

/// What a subscription receives.
#[derive(Debug, Clone)]
pub enum Received {
    /// The subscription continues with the messages after `after`. Received first, and again when the stream's
    /// incarnation has changed or when the stream has dropped messages that were not read yet. `last` is the sequence
    /// of the stream's last message, or 0.
    Opened {
        incarnation: String,
        after: u64,
        last: u64,
    },
    /// The stream does not exist yet; received at most once. The subscription waits for the stream.
    StreamMissing,
    Message(StreamMessage),
}
