//! Every limit of a connection, and what happens when it is reached.

use std::time::Duration;

/// Event ids remembered of each stream, to drop one that is published a second time.
pub const SEEN_EVENTS_MAX: usize = 20_000;

/// Versions of entities remembered, to tell once what two streams tell. While one stream is that far behind the other (a
/// backfill), clients may be told twice of what has not changed.
pub const TOLD_VERSIONS_MAX: usize = 20_000;

/// Requests of one client that wait for their turn. Beyond it nothing more is read from the client.
pub const ACTIONS_WAITING_MAX: usize = 16;
/// Entries taken out of the ring at once.
pub const ENTRIES_PER_READ_MAX: usize = 32;
/// Of each connection, kept while it is idle; a larger frame gets its own room. axum's default is 128 KiB.
pub const READ_BUFFER_BYTES: usize = 1024;
/// What is written at once. The buffer keeps this size after a burst, so it is a part of an idle socket's memory.
pub const WRITE_BUFFER_BYTES: usize = 4096;

/// Of each stream the inbox offers so many messages more than the ring had dropped when it was asked, so that the
/// ring may go on meanwhile.
pub const RESUME_OVERLAP_MESSAGES: u64 = 1_000;
/// Frames read from the inbox at once.
pub const RESUME_CHUNK_FRAMES: i64 = 256;

/// How far a client may be behind while a write to it hangs.
pub const SOCKET_QUEUE_MESSAGES_MAX: u64 = 64;
const FRAME_BYTES_MAX: usize = 64 * 1024;
const FRAMES_PER_SECOND_MAX: u32 = 20;
const FRAMES_BURST_MAX: u32 = 60;
const CONNECTIONS_MAX: usize = 10_000;
const CONNECTIONS_PER_USER_MAX: usize = 20;

/// How much is remembered of what happened, for those who come back.
#[derive(Debug, Clone)]
pub struct Memory {
    /// In memory. Older cursors are resumed from the inbox, if there is one.
    pub events_max: usize,
    pub bytes_max: usize,
    /// Of each stream an instance reads so many old messages when it starts, so that clients of one that was stopped can
    /// resume also while the inbox is away.
    pub tail_messages_max: u64,
    /// Who missed more than so many frames gets `resumed: false`: to reload is less work for both.
    pub resume_frames_max: i64,
    /// How long a client that comes back waits for the inbox to hold all that memory does not.
    pub resume_wait: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            events_max: 10_000,
            bytes_max: 32 * 1024 * 1024,
            tail_messages_max: 5_000,
            resume_frames_max: 5_000,
            resume_wait: Duration::from_secs(2),
        }
    }
}

/// All that a test may want to be smaller.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the first frame; then 1008.
    pub hello_wait: Duration,
    /// Until the streams have been read at the start of an instance; then 1013.
    pub ready_wait: Duration,
    /// Of a frame from a client; beyond it 1009. The largest message, escaped, fits.
    pub frame_bytes_max: usize,
    /// Sustained; beyond it, after a burst, 1008.
    pub frames_per_second_max: u32,
    pub frames_burst_max: u32,
    /// Of this instance; beyond it 503.
    pub connections_max: usize,
    /// Beyond it 1008.
    pub connections_per_user_max: usize,
    /// Events that a client may be behind while a write to it hangs longer than `write_stall`; then 1008.
    pub socket_queue_messages_max: u64,
    pub write_stall: Duration,
    /// A write that hangs so long ends the connection, however little is behind it.
    pub write_wait: Duration,
    /// Between pings.
    pub heartbeat_interval: Duration,
    /// Without any sign the other side is gone.
    pub silence_max: Duration,
    /// A token is looked at so often, at its end, and when one is said to be revoked. What is asked with one that
    /// is no longer good is refused at once.
    pub token_check_interval: Duration,
    /// More frequent typing is not told.
    pub typing_interval: Duration,
    /// For the other side's answer to our close.
    pub close_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello_wait: Duration::from_secs(10),
            ready_wait: Duration::from_secs(3),
            frame_bytes_max: FRAME_BYTES_MAX,
            frames_per_second_max: FRAMES_PER_SECOND_MAX,
            frames_burst_max: FRAMES_BURST_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_user_max: CONNECTIONS_PER_USER_MAX,
            socket_queue_messages_max: SOCKET_QUEUE_MESSAGES_MAX,
            write_stall: Duration::from_secs(1),
            write_wait: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(20),
            silence_max: Duration::from_secs(50),
            token_check_interval: Duration::from_mins(1),
            typing_interval: Duration::from_secs(1),
            close_wait: Duration::from_secs(1),
        }
    }
}
