//! Writing to a client, with timeouts for a slow one, and closing its connection.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use flack_api::frames::ServerFrame;
use futures::SinkExt as _;
use metrics::counter;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::error;

use crate::{
    feed::Feed,
    limits::Limits,
    ring::{ReadError, ReadPosition},
};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client has closed the connection, or does not respond any more.
    ClientGone,
    SlowClient,
    NoHello,
    BadHello,
    TooManyFrames,
    TooManyConnections,
    BinaryFrame,
    FrameTooLarge,
    /// The instance drains.
    Draining,
    StreamReset,
    BackfillFailed,
    NotReady,
}

impl CloseReason {
    /// Returns the close code; `None` if there is no client to send it to.
    fn code(self) -> Option<u16> {
        // 1012 and 1013 have no name in axum.
        Some(match self {
            Self::ClientGone => return None,
            Self::SlowClient | Self::NoHello | Self::BadHello | Self::TooManyFrames | Self::TooManyConnections => {
                close_code::POLICY
            }
            Self::BinaryFrame => close_code::UNSUPPORTED,
            Self::FrameTooLarge => close_code::SIZE,
            // The client reconnects with its cursor, and reloads if it cannot be resumed.
            Self::Draining | Self::StreamReset | Self::BackfillFailed => 1012,
            Self::NotReady => 1013,
        })
    }

    /// Returns the text of the close frame, which is also the metric's label.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientGone => "the client is gone",
            Self::SlowClient => "too slow: the client reads more slowly than events arrive",
            Self::NoHello => "no hello in time",
            Self::BadHello => "the first frame must be a valid hello",
            Self::TooManyFrames => "too many frames",
            Self::TooManyConnections => "too many connections of this user",
            Self::BinaryFrame => "text frames only",
            Self::FrameTooLarge => "the frame is too large",
            Self::Draining => "the server is restarting; reconnect",
            Self::StreamReset => "a stream was reset; reconnect",
            Self::BackfillFailed => "missed events cannot be read now; reconnect",
            Self::NotReady => "the events pipeline is unavailable; reconnect later",
        }
    }
}

impl From<ReadError> for CloseReason {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lagged => Self::SlowClient,
            ReadError::StreamReset => Self::StreamReset,
        }
    }
}

/// The writing side of a connection.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub socket: &'a mut WebSocket,
    pub progress: Progress<'a>,
}

/// A connection's read position, and how far it may be behind the head of the ring buffer.
#[derive(Debug)]
pub struct Progress<'a> {
    limits: &'a Limits,
    /// The ring buffer's head, which changes with each new entry.
    pub head: watch::Receiver<u64>,
    pub position: ReadPosition,
    /// Whether the client still receives what it missed. Meanwhile it may be any number of entries behind.
    is_catching_up: bool,
}

impl<'a> Outgoing<'a> {
    pub fn new(
        socket: &'a mut WebSocket,
        limits: &'a Limits,
        head: watch::Receiver<u64>,
        position: ReadPosition,
    ) -> Self {
        Self { socket, progress: Progress { limits, head, position, is_catching_up: true } }
    }

    /// Sends all events that the ring buffer has for this client.
    pub async fn deliver(&mut self, feed: &Feed) -> Result<(), CloseReason> {
        loop {
            self.progress.head.borrow_and_update();
            let frames = feed.ring().read(&mut self.progress.position)?;
            if frames.is_empty() {
                self.progress.is_catching_up = false;
                return Ok(());
            }
            self.send_events(frames).await?;
        }
    }

    /// Sends events with one flush.
    pub async fn send_events(&mut self, frames: Vec<Utf8Bytes>) -> Result<(), CloseReason> {
        counter!("websocket_events_written_total").increment(frames.len() as u64);
        let writing = async {
            for frame in frames {
                self.socket.feed(Message::Text(frame)).await?;
            }
            self.socket.flush().await
        };
        write_bounded(writing, &self.progress).await
    }

    pub async fn send_frame(&mut self, frame: &ServerFrame) -> Result<(), CloseReason> {
        match serde_json::to_string(frame) {
            Ok(text) => self.send(Message::text(text)).await,
            Err(error) => {
                error!(%error, "a frame could not be serialised");
                Ok(())
            }
        }
    }

    pub async fn send(&mut self, message: Message) -> Result<(), CloseReason> {
        write_bounded(self.socket.send(message), &self.progress).await
    }
}

/// Completes a write, unless the client is too slow.
async fn write_bounded<E>(
    writing: impl Future<Output = Result<(), E>>,
    progress: &Progress<'_>,
) -> Result<(), CloseReason> {
    tokio::select! {
        biased;
        written = writing => written.map_err(|_| CloseReason::ClientGone),
        () = progress.until_too_slow() => Err(CloseReason::SlowClient),
    }
}

impl Progress<'_> {
    /// Waits until a write that begins now has taken too long.
    async fn until_too_slow(&self) {
        let deadline = Instant::now() + self.limits.write_timeout;
        sleep(self.limits.write_stall).await;
        let is_behind = |head: &u64| head.saturating_sub(self.position.next) > self.limits.entries_behind_max;
        let mut head = self.head.clone();
        tokio::select! {
            // `wait_for` does not fail: the feed holds the sender, and exists longer than its connections.
            _ = head.wait_for(is_behind), if !self.is_catching_up => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Sends a close frame with the reason. Waits for the client's answer, so that the reason arrives before TCP is closed.
pub async fn close(socket: &mut WebSocket, reason: CloseReason, limits: &Limits) {
    let Some(code) = reason.code() else { return };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason.text()) };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Without an answer in time, TCP is closed all the same.
    let _ = timeout(limits.close_timeout, closing).await;
}
