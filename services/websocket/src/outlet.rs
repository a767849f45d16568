//! Writing to a client, who may be slow, or gone without a word.

use std::{borrow::Cow, future::Future};

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
    limits::Limits,
    ring::{Lost, Stand},
};

/// 1012 and 1013 are registered, but have no name in axum.
const SERVICE_RESTART: u16 = 1012;
const TRY_AGAIN_LATER: u16 = 1013;

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client closed, or is not there any more.
    Gone,
    /// It reads slower than things happen.
    Slow,
    /// It did what it may not.
    Policy(&'static str),
    Unsupported(&'static str),
    TooBig,
    /// We go away, or what the client knows is worth nothing: it shall come back, and reload if it must.
    Restart(&'static str),
    NotReady,
}

impl End {
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::Slow => (close_code::POLICY, "too slow: events come faster than they are read"),
            Self::Policy(reason) => (close_code::POLICY, *reason),
            Self::Unsupported(reason) => (close_code::UNSUPPORTED, *reason),
            Self::TooBig => (close_code::SIZE, "the frame is too big"),
            Self::Restart(reason) => (SERVICE_RESTART, *reason),
            Self::NotReady => (TRY_AGAIN_LATER, "the events pipeline is away; try again in a moment"),
        };
        Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) })
    }

    /// For logs and metrics.
    pub fn word(&self) -> Cow<'static, str> {
        match self {
            Self::Gone => "gone".into(),
            Self::Slow => "slow".into(),
            Self::Policy(reason) | Self::Unsupported(reason) | Self::Restart(reason) => (*reason).into(),
            Self::TooBig => "too big".into(),
            Self::NotReady => "not ready".into(),
        }
    }
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Overtaken => Self::Slow,
            Lost::StreamBeganAnew => Self::Restart("a stream began anew"),
        }
    }
}

/// Writes events, all that were taken at once with one flush.
pub async fn write_events(
    socket: &mut WebSocket,
    frames: Vec<Utf8Bytes>,
    patience: Patience<'_>,
) -> Result<(), End> {
    counter!("websocket_events_written_total").increment(frames.len() as u64);
    let writing = async {
        for frame in frames {
            socket.feed(Message::Text(frame)).await?;
        }
        socket.flush().await
    };
    patience.bounded(writing).await
}

pub async fn write_frame(
    socket: &mut WebSocket,
    frame: &ServerFrame,
    patience: Patience<'_>,
) -> Result<(), End> {
    match serde_json::to_string(frame) {
        Ok(text) => write(socket, Message::text(text), patience).await,
        Err(problem) => {
            error!(%problem, "a frame cannot be written as JSON");
            Ok(())
        }
    }
}

pub async fn write(socket: &mut WebSocket, message: Message, patience: Patience<'_>) -> Result<(), End> {
    patience.bounded(socket.send(message)).await
}

/// How long a write may hang.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'a> {
    pub limits: &'a Limits,
    pub head: &'a watch::Receiver<u64>,
    pub stand: &'a Stand,
    /// Still gets what it missed: it cannot be blamed for being behind.
    pub is_catching_up: bool,
}

impl Patience<'_> {
    async fn bounded<E>(self, writing: impl Future<Output = Result<(), E>>) -> Result<(), End> {
        tokio::select! {
            biased;
            written = writing => written.map_err(|_| End::Gone),
            () = self.run_out() => Err(End::Slow),
        }
    }

    /// Ends when the client is too slow.
    async fn run_out(self) {
        let deadline = Instant::now() + self.limits.write_wait;
        sleep(self.limits.write_stall).await;
        let is_behind =
            |head: &u64| head.saturating_sub(self.stand.next) > self.limits.socket_queue_messages_max;
        let mut head = self.head.clone();
        tokio::select! {
            // The sender lives as long as the hub, and the hub longer than its sockets.
            _ = head.wait_for(is_behind), if !self.is_catching_up => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Says why, and waits a moment for the answer, so that the reason arrives.
pub async fn close(socket: &mut WebSocket, end: &End, limits: &Limits) {
    let Some(frame) = end.close_frame() else { return };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Who does not answer is not waited for: the connection is dropped.
    let _ = timeout(limits.close_wait, closing).await;
}
