//! Writing to a client, with timeouts for a slow one, and closing its connection.

use futures::{SinkExt as _, StreamExt as _};
use metrics::counter;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tracing::{debug, error};

use super::stream::Socket;
use crate::{
    audience::Recipient,
    feed::Feed,
    limits::Limits,
    ring::{ReadError, ReadPosition},
};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client has sent a close frame.
    ClosedByClient,
    /// The client has ended TCP without a close frame, or does not respond any more.
    ClientGone,
    SlowClient,
    NoHello,
    BadHello,
    TooManyFrames,
    TooManyConnections,
    TooManyAnonymousConnections,
    ProtocolError,
    BinaryFrame,
    InvalidUtf8,
    FrameTooLarge,
    /// The instance drains.
    Draining,
    StreamReset,
    BackfillFailed,
    NotReady,
    ChannelsUnavailable,
}

impl CloseReason {
    /// Returns the code of the close frame that the service sends; `None` if it sends none of its own.
    fn code(self) -> Option<CloseCode> {
        match self {
            // tungstenite answers the client's close frame with the client's code.
            Self::ClosedByClient | Self::ClientGone => None,
            Self::SlowClient
            | Self::NoHello
            | Self::BadHello
            | Self::TooManyFrames
            | Self::TooManyConnections
            | Self::TooManyAnonymousConnections => Some(CloseCode::Policy),
            Self::ProtocolError => Some(CloseCode::Protocol),
            Self::BinaryFrame => Some(CloseCode::Unsupported),
            Self::InvalidUtf8 => Some(CloseCode::Invalid),
            Self::FrameTooLarge => Some(CloseCode::Size),
            // The client reconnects with its cursor, and reloads if it cannot be resumed.
            Self::Draining | Self::StreamReset | Self::BackfillFailed => Some(CloseCode::Restart),
            Self::NotReady | Self::ChannelsUnavailable => Some(CloseCode::Again),
        }
    }

    /// Returns the text of the close frame, which is also the metric's label.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClosedByClient => "the client has closed the connection",
            Self::ClientGone => "the client is gone",
            Self::SlowClient => "too slow: the client reads more slowly than events arrive",
            Self::NoHello => "no hello in time",
            Self::BadHello => "the first frame must be a valid hello",
            Self::TooManyFrames => "too many frames",
            Self::TooManyConnections => "too many connections of this user",
            Self::TooManyAnonymousConnections => "too many connections without a user; send hello with a token",
            Self::ProtocolError => "the websocket protocol was violated",
            Self::BinaryFrame => "text frames only",
            Self::InvalidUtf8 => "a text frame is not UTF-8",
            Self::FrameTooLarge => "the frame is too large",
            Self::Draining => "the server is restarting; reconnect",
            Self::StreamReset => "a stream was reset; reconnect",
            Self::BackfillFailed => "missed events cannot be read now; reconnect",
            Self::ChannelsUnavailable => "the channels of the user cannot be read now; reconnect later",
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
    pub socket: &'a mut Socket,
    pub progress: Progress<'a>,
    /// Without a user until `hello` was answered.
    pub recipient: Recipient,
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
    pub fn new(socket: &'a mut Socket, limits: &'a Limits, head: watch::Receiver<u64>, position: ReadPosition) -> Self {
        let progress = Progress { limits, head, position, is_catching_up: true };
        Self { socket, progress, recipient: Recipient::Version1 }
    }

    /// Sends all events that the ring buffer has for this client.
    pub async fn deliver(&mut self, feed: &Feed) -> Result<(), CloseReason> {
        loop {
            self.progress.head.borrow_and_update();
            let frames = feed.ring().read(&mut self.progress.position, &self.recipient)?;
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

    pub async fn send_frame(&mut self, frame: &impl Serialize) -> Result<(), CloseReason> {
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

/// Ends the connection. A client that does not take part in the closing handshake within `close_timeout` is reset.
pub async fn close(socket: &mut Socket, reason: CloseReason, limits: &Limits) {
    let is_complete = match reason {
        CloseReason::ClientGone => false,
        // Boxed: otherwise every idle connection would keep the memory that only its end needs.
        _ => timeout(limits.close_timeout, Box::pin(closing_handshake(socket, reason)))
            .await
            .is_ok_and(|end| end.is_ok()),
    };
    if !is_complete {
        debug!(reason = reason.text(), "a connection is reset: the client did not complete the closing handshake");
        socket.get_ref().reset_on_drop();
    }
}

/// Performs the closing handshake: sends the reason, or answers the client's close frame, and ends TCP.
async fn closing_handshake(socket: &mut Socket, reason: CloseReason) -> Result<(), Error> {
    if let Some(code) = reason.code() {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason.text()) };
        socket.send(Message::Close(Some(frame))).await?;
    }
    // Ends after the client's close frame and its answer, or at once if a frame could not be read.
    while socket.next().await.is_some_and(|received| received.is_ok()) {}
    Ok(socket.get_mut().finish().await?)
}
