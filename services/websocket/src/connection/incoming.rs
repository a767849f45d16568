//! Reading a client's frames, and their rate limit.

use axum::extract::ws::{Message, WebSocket};
use tokio::time::Instant;
use uuid::Uuid;

use super::outgoing::CloseReason;
use crate::limits::Limits;

/// Waits for the next text frame.
pub async fn next_text(socket: &mut WebSocket) -> Result<String, CloseReason> {
    loop {
        if let Some(text) = text_of(socket.recv().await)? {
            return Ok(text);
        }
    }
}

/// Returns the text of a frame; `None` for a ping, which axum has answered, and for a pong.
pub fn text_of(received: Option<Result<Message, axum::Error>>) -> Result<Option<String>, CloseReason> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Binary(_))) => Err(CloseReason::BinaryFrame),
        // axum hides tungstenite's error; only its text is left.
        Some(Err(error)) if error.to_string().starts_with("Space limit exceeded") => Err(CloseReason::FrameTooLarge),
        None | Some(Ok(Message::Close(_)) | Err(_)) => Err(CloseReason::ClientGone),
    }
}

/// Returns the id in an invalid frame, if it has one. So the answer to an invalid `post_message` has its id.
pub fn id_in(text: &str) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct WithId {
        id: Uuid,
    }
    serde_json::from_str::<WithId>(text).ok().map(|with_id| with_id.id)
}

/// A token bucket for the frames of one client.
#[derive(Debug)]
pub struct RateLimiter {
    available: f64,
    refilled: Instant,
}

impl RateLimiter {
    pub fn new(limits: &Limits) -> Self {
        Self { available: f64::from(limits.frames_burst_max), refilled: Instant::now() }
    }

    /// Counts a frame. Returns whether the client was allowed to send it.
    pub fn allow(&mut self, limits: &Limits) -> bool {
        let now = Instant::now();
        let refill = (now - self.refilled).as_secs_f64() * f64::from(limits.frames_per_second_max);
        self.available = (self.available + refill).min(f64::from(limits.frames_burst_max));
        self.refilled = now;
        let is_allowed = self.available >= 1.0;
        if is_allowed {
            self.available -= 1.0;
        }
        is_allowed
    }
}
