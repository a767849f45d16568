//! Every limit, and what happens when it is reached. Numbers such as 1008 are websocket close codes; 503 is an HTTP
//! status.

use std::time::Duration;

/// The most recent keys that the deduplication holds: this many event ids of each stream, and this many entity
/// versions. If an instance reads this many events between a version and its duplicate, clients may receive the version
/// twice.
pub const DEDUPLICATION_KEYS_MAX: usize = 20_000;

/// Requests of one client that wait while an earlier one runs. At this number, nothing more is read from the client.
pub const ACTIONS_WAITING_MAX: usize = 16;
/// Frames read from the ring buffer at once.
pub const FRAMES_PER_READ_MAX: usize = 32;
/// Read buffer of each connection, allocated also while it is idle. It grows for a larger frame. tungstenite's default
/// is 128 KiB.
pub const READ_BUFFER_BYTES: usize = 1024;
/// Write buffer of each connection, allocated also while it is idle.
pub const WRITE_BUFFER_BYTES: usize = 4096;
/// Bytes of a client that are read and discarded after the close frame. A client that sends more may not receive it.
pub const DISCARDED_BYTES_MAX: u64 = 1024 * 1024;
/// Typing signals that wait for a slow connection; older ones are dropped.
pub const TYPING_SIGNALS_MAX: usize = 32;

/// From this number of entries on that were not for a client since its last frame, the next ping comes with a cursor.
/// It is a small part of a backfill, so that a client whose channels are silent can resume.
pub const ENTRIES_SKIPPED_MAX: u64 = 256;
/// Memberships that were read from events most recently, of all users. They are known to a user who connects later,
/// although a replica answers the list of the user's channels: so many memberships do not change while it catches up.
pub const RECENT_MEMBERSHIPS_MAX: usize = 10_000;
/// Lists of channels that are read at once. A list is a query with many rows, and all clients of an instance reconnect
/// within seconds when it drains. Others wait until `channels_timeout`.
pub const CHANNEL_LISTS_MAX: usize = 32;
/// The longest time from the moment at which a user has joined or left a channel to the event. With a later event, only
/// the read position has changed. An event of a replica is as much later as the replica is behind.
pub const MEMBERSHIP_CHANGE_SECONDS_MAX: i64 = 60;

/// Messages of each stream that a backfill reads although the ring buffer still holds them. The ring buffer may drop
/// them while the backfill is sent.
pub const BACKFILL_OVERLAP_MESSAGES: u64 = 1_000;
/// Rows read from the inbox at once.
pub const BACKFILL_PAGE_ROWS: i64 = 256;

/// How much history is kept for reconnecting clients that send a cursor.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Entries of the ring buffer. When it is full, the oldest entry is dropped. A cursor before the oldest entry is
    /// resumed from the inbox, if there is one.
    pub events_max: usize,
    /// Bytes of all frames in the ring buffer. Above it, the oldest entries are dropped.
    pub bytes_max: usize,
    /// The newest messages of each stream, which an instance reads when it starts. With them, clients of a stopped
    /// instance can resume even while the inbox is unavailable.
    pub tail_messages_max: u64,
    /// Events in a backfill. A client that missed more gets `resumed: false`: to reload is less work for both sides.
    pub backfill_events_max: i64,
    /// A reconnecting client waits at most twice this long: until this instance has read the streams up to the cursor,
    /// and then until the inbox holds the events that the ring buffer has dropped.
    pub resume_timeout: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_max: 10_000,
            bytes_max: 32 * 1024 * 1024,
            tail_messages_max: 5_000,
            backfill_events_max: 5_000,
            resume_timeout: Duration::from_secs(2),
        }
    }
}

/// The limits of connections. Tests make them smaller.
#[derive(Debug, Clone)]
pub struct Limits {
    pub retention: Retention,
    /// Without `hello` within this time after the upgrade: 1008.
    pub hello_timeout: Duration,
    /// How long a client waits for an instance that has just started and has not yet read the streams. Then 1013.
    pub ready_timeout: Duration,
    /// How long a client of version 2 that signs in waits for the list of its channels. Then 1013: without the list,
    /// the client would miss messages.
    pub channels_timeout: Duration,
    /// Size of a frame from a client. A larger one ends the connection with 1009. The longest `source` fits, even if
    /// JSON escapes all of it.
    pub frame_bytes_max: usize,
    /// Rate of frames from a client after a burst of `frames_burst_max`. Above it 1008. Every frame counts: also a
    /// ping, a fragment of a message, and a pong that does not answer a ping.
    pub frames_per_second_max: u32,
    /// See `frames_per_second_max`.
    pub frames_burst_max: u32,
    /// Open connections of this instance. Above it 503.
    pub connections_max: usize,
    /// Open connections of one address at this instance; for IPv6, of one network of 64 bits. Above it 429. Half of
    /// them may be anonymous. Above that 1008.
    pub connections_per_address_max: usize,
    /// Anonymous connections of this instance. Above it 1008, so that users who sign in find a place. Half of what a
    /// balancer with 20,000 files admits.
    pub anonymous_connections_max: usize,
    /// Open connections of one user at this instance. Above it 1008.
    pub connections_per_user_max: usize,
    /// When one write takes longer than `write_stall`, and the client is more than this many entries behind the head of
    /// the ring buffer: 1008.
    pub entries_behind_max: u64,
    /// See `entries_behind_max`.
    pub write_stall: Duration,
    /// A write that takes longer ends the connection with 1008, however few entries the client is behind.
    pub write_timeout: Duration,
    /// Time between two pings to a client.
    pub heartbeat_interval: Duration,
    /// A client that sends nothing for this time, not even a pong, is disconnected.
    pub silence_max: Duration,
    /// Time between two checks of a connection's token. The token is also checked when it expires, when a revocation is
    /// reported, and before each action.
    pub token_check_interval: Duration,
    /// Shortest time between two typing signals of a connection. Typing frames in between are dropped.
    pub typing_interval: Duration,
    /// For the closing handshake: the service's close frame, the client's, and the end of both directions of TCP. Then
    /// the connection is reset, so that the kernel does not keep what the client has not read.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            hello_timeout: Duration::from_secs(10),
            ready_timeout: Duration::from_secs(3),
            channels_timeout: Duration::from_secs(3),
            frame_bytes_max: 64 * 1024,
            frames_per_second_max: 20,
            frames_burst_max: 60,
            connections_max: 10_000,
            connections_per_address_max: 1_000,
            anonymous_connections_max: 2_000,
            connections_per_user_max: 20,
            entries_behind_max: 64,
            write_stall: Duration::from_secs(1),
            write_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(20),
            silence_max: Duration::from_secs(50),
            token_check_interval: Duration::from_mins(1),
            typing_interval: Duration::from_secs(1),
            close_timeout: Duration::from_secs(2),
        }
    }
}
