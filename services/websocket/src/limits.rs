//! Every limit, and what happens when it is reached. Numbers such as 1008 are close codes of the websocket protocol.

use std::time::Duration;

/// Recent keys that the deduplication holds: event ids of each stream, and entity versions. If one stream is more than
/// this behind another, clients may receive a version twice.
pub const DEDUPLICATION_KEYS_MAX: usize = 20_000;

/// Requests of one client that wait while an earlier one runs. At this number, nothing more is read from the client.
pub const ACTIONS_WAITING_MAX: usize = 16;
/// Frames read from the ring buffer at once.
pub const FRAMES_PER_READ_MAX: usize = 32;
/// Of each connection, also while it is idle. It grows for a larger frame. axum's default is 128 KiB.
pub const READ_BUFFER_BYTES: usize = 1024;
/// Of each connection, also while it is idle.
pub const WRITE_BUFFER_BYTES: usize = 4096;
/// Typing signals that wait for a slow connection; older ones are dropped.
pub const TYPING_SIGNALS_MAX: usize = 32;

/// Of each stream, a backfill also reads up to this many messages that the ring buffer still holds: the ring buffer may
/// drop them while the backfill is sent.
pub const BACKFILL_OVERLAP_MESSAGES: u64 = 1_000;
/// Rows read from the inbox at once.
pub const BACKFILL_PAGE_ROWS: i64 = 256;

/// How much history is kept for reconnecting clients that send a cursor.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Entries of the ring buffer. An older cursor is resumed from the inbox, if there is one.
    pub events_max: usize,
    /// Of the ring buffer's frames.
    pub bytes_max: usize,
    /// Last messages of each stream that an instance reads when it starts, so that clients of a stopped instance can
    /// resume even while the inbox is unavailable.
    pub tail_messages_max: u64,
    /// A client that missed more gets `resumed: false`: reloading is less work for both sides.
    pub backfill_frames_max: i64,
    /// For each of two waits of a reconnecting client: until this instance has read the streams up to the cursor, and
    /// until the inbox holds the events that the ring buffer has dropped.
    pub resume_timeout: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_max: 10_000,
            bytes_max: 32 * 1024 * 1024,
            tail_messages_max: 5_000,
            backfill_frames_max: 5_000,
            resume_timeout: Duration::from_secs(2),
        }
    }
}

/// The limits that tests make smaller.
#[derive(Debug, Clone)]
pub struct Limits {
    pub retention: Retention,
    /// For the first frame; then 1008.
    pub hello_timeout: Duration,
    /// For reading the streams after the start of an instance; then 1013.
    pub ready_timeout: Duration,
    /// Of a frame from a client; a larger one ends the connection with 1009. The largest message, escaped, fits.
    pub frame_bytes_max: usize,
    /// Beyond this rate, after a burst, 1008.
    pub frames_per_second_max: u32,
    pub frames_burst_max: u32,
    /// Of this instance; beyond it 503.
    pub connections_max: usize,
    /// Beyond it 1008.
    pub connections_per_user_max: usize,
    /// When one write to a client takes longer than `write_stall` and more events than this wait for it: 1008.
    pub socket_queue_messages_max: u64,
    pub write_stall: Duration,
    /// A write that takes longer ends the connection with 1008, however few events wait.
    pub write_timeout: Duration,
    /// Between pings.
    pub heartbeat_interval: Duration,
    /// A client that sends nothing for this time, not even a pong, is disconnected.
    pub silence_max: Duration,
    /// Between checks of a connection's token. It is also checked when it expires, when a revocation is reported, and
    /// before each action.
    pub token_check_interval: Duration,
    /// More frequent typing frames are dropped.
    pub typing_interval: Duration,
    /// For the client's answer to a close frame.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            hello_timeout: Duration::from_secs(10),
            ready_timeout: Duration::from_secs(3),
            frame_bytes_max: 64 * 1024,
            frames_per_second_max: 20,
            frames_burst_max: 60,
            connections_max: 10_000,
            connections_per_user_max: 20,
            socket_queue_messages_max: 64,
            write_stall: Duration::from_secs(1),
            write_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(20),
            silence_max: Duration::from_secs(50),
            token_check_interval: Duration::from_mins(1),
            typing_interval: Duration::from_secs(1),
            close_timeout: Duration::from_secs(1),
        }
    }
}
