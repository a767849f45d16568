//! Reading a client's frames.

use std::io::ErrorKind;

use flack_api::{Problem, frames, frames_v2};
use futures::StreamExt as _;
use secrecy::SecretString;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, error::ProtocolError};
use uuid::Uuid;

use super::{
    actions::{Action, Channel},
    outgoing::CloseReason,
    stream::Socket,
};
use crate::audience::Recipient;

/// What a client requests with a frame of any version.
#[derive(Debug)]
pub enum Request {
    /// `recipient` has no user, and the version of the frame.
    Hello {
        token: Option<SecretString>,
        cursor: Option<String>,
        recipient: Recipient,
    },
    Action(Action),
    Typing {
        channel: Channel,
        thread_id: Option<i64>,
    },
}

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

/// Parses a frame of the version that the client has.
pub fn request_of(text: &str, recipient: &Recipient) -> Result<Request, Problem> {
    let invalid = |error: serde_json::Error| Problem::bad_request(format!("unknown or invalid frame: {error}"));
    match recipient {
        Recipient::Version1 => match serde_json::from_str(text).map_err(invalid)? {
            frames::ClientFrame::Hello { token, cursor, version } => {
                hello(token.map(String::from), cursor.map(String::from), version)
            }
            frames::ClientFrame::PingUser => Ok(Request::Action(Action::PingUser)),
            frames::ClientFrame::PostMessage { id, channel, source } => {
                let channel = Channel::Name(channel.into());
                let (source, thread_id, file_ids) = (source.into(), None, Vec::new());
                Ok(Request::Action(Action::PostMessage { id, channel, thread_id, source, file_ids }))
            }
            frames::ClientFrame::Typing { channel } => {
                Ok(Request::Typing { channel: Channel::Name(channel.into()), thread_id: None })
            }
        },
        Recipient::Anonymous | Recipient::User(_) => match serde_json::from_str(text).map_err(invalid)? {
            frames_v2::ClientFrame::Hello { token, cursor, version } => {
                hello(token.map(String::from), cursor.map(String::from), version)
            }
            frames_v2::ClientFrame::PingUser => Ok(Request::Action(Action::PingUser)),
            frames_v2::ClientFrame::PostMessage { id, channel_id, source, thread_id, file_ids } => {
                let channel = Channel::Id(channel_id);
                let source = source.into();
                Ok(Request::Action(Action::PostMessage { id, channel, thread_id, source, file_ids }))
            }
            frames_v2::ClientFrame::Typing { thread_id: Some(..=0), .. } => {
                Err(Problem::bad_request("`thread_id` has to be positive"))
            }
            frames_v2::ClientFrame::Typing { channel_id, thread_id } => {
                Ok(Request::Typing { channel: Channel::Id(channel_id), thread_id })
            }
        },
    }
}

fn hello(token: Option<String>, cursor: Option<String>, version: Option<u8>) -> Result<Request, Problem> {
    let recipient = Recipient::without_user(version)
        .ok_or_else(|| Problem::bad_request("the protocol has the versions 1 and 2"))?;
    Ok(Request::Hello { token: token.map(SecretString::from), cursor, recipient })
}

/// Returns the id in an invalid frame, if it has one. So the answer to an invalid `post_message` has its id.
pub fn id_in(text: &str) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct WithId {
        id: Uuid,
    }
    serde_json::from_str::<WithId>(text).ok().map(|with_id| with_id.id)
}
