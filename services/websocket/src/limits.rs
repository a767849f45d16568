//! Every limit of a connection, and what happens when it is reached.

use std::time::Duration;

/// Memory of recent events, for those who come back. Older cursors get `resumed: false`.
pub const RING_EVENTS_MAX: usize = 10_000;
pub const RING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of each stream an instance reads so many old messages when it starts, so that clients of one that was stopped can resume.
pub const TAIL_MESSAGES_MAX: u64 = 5_000;
/// Event ids remembered of each stream, to drop one that is published a second time.
pub const SEEN_EVENTS_MAX: usize = 20_000;

/// Requests of one client that wait for their turn. Beyond it nothing more is read from the client.
pub const ACTIONS_WAITING_MAX: usize = 16;
/// Entries taken out of the ring at once.
pub const ENTRIES_PER_READ_MAX: usize = 32;
/// axum's default costs 128 KiB a connection.
pub const READ_BUFFER_BYTES: usize = 4096;

/// How far a client may be behind while a write to it hangs.
pub const SOCKET_QUEUE_MESSAGES_MAX: u64 = 64;
const FRAME_BYTES_MAX: usize = 64 * 1024;
const FRAMES_PER_SECOND_MAX: u32 = 20;
const FRAMES_BURST_MAX: u32 = 60;
const CONNECTIONS_MAX: usize = 10_000;
const CONNECTIONS_PER_USER_MAX: usize = 20;

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
    /// How soon a connection hears that its token was revoked. What it asks for is refused at once.
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
            token_check_interval: Duration::from_secs(5),
            typing_interval: Duration::from_secs(1),
            close_wait: Duration::from_secs(1),
        }
    }
}
