//! Reading a client's frames.

use std::io::ErrorKind;

use futures::StreamExt as _;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, error::ProtocolError};
use uuid::Uuid;

use super::{outgoing::CloseReason, stream::Socket};

/// Waits for the next text frame.
pub async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, CloseReason> {
    loop {
        if let Some(text) = text_of(socket.next().await)? {
            return Ok(text);
        }
    }
}

/// Returns the text of a frame; `None` for a ping, which tungstenite answers, and for a pong.
pub fn text_of(received: Option<Result<Message, Error>>) -> Result<Option<Utf8Bytes>, CloseReason> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Binary(_))) => Err(CloseReason::BinaryFrame),
        Some(Ok(Message::Close(_))) => Err(CloseReason::ClosedByClient),
        Some(Err(Error::Capacity(_))) => Err(CloseReason::FrameTooLarge),
        Some(Err(Error::Utf8(_))) => Err(CloseReason::InvalidUtf8),
        Some(Err(Error::Io(error))) if error.kind() == ErrorKind::QuotaExceeded => Err(CloseReason::TooManyFrames),
        // TCP has ended without a close frame.
        None | Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Err(CloseReason::ClientGone),
        Some(Err(Error::Protocol(_))) => Err(CloseReason::ProtocolError),
        Some(Err(_)) => Err(CloseReason::ClientGone),
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
