//! What a message is, apart from where it is stored and how it is asked for. The monolith links this module too.

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::{ChannelModel, MessageModel},
    messages::types,
};
use serde::Deserialize;

/// `GET /api/messages` answers at most so many; who wants more reads on with `updated_since`.
pub const LIST_MESSAGES_MAX: i64 = 1_000;

/// `GET /api/messages` looks back at most so far.
pub const LIST_HOURS_MAX: i32 = 24;

/// The first version of the API knows one channel.
pub const GENERAL_CHANNEL: &str = "general";

/// A row of the table `messages`, as far as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Message {
    pub id: i64,
    pub user_id: i64,
    pub channel_id: i64,
    pub source: String,
    pub html: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Of the author; read only where it was asked for.
    #[sqlx(default)]
    #[serde(default)]
    pub nickname: Option<String>,
}

/// A row of the table `channels`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    pub id: i64,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// Where a message is found.
pub fn message_path(id: i64) -> String {
    format!("/api/messages/{id}")
}

impl From<Message> for types::Message {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            created_at: message.created_at.timestamp(),
            updated_at: message.updated_at.timestamp(),
            source: message.source,
            html: message.html,
            user_id: message.user_id,
            nickname: message.nickname,
            links: types::MessageLinks {
                self_: message_path(message.id),
                user: format!("/api/users/{}", message.user_id),
            },
        }
    }
}

impl From<Message> for MessageModel {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            created_at: message.created_at.timestamp(),
            updated_at: message.updated_at.timestamp(),
            user_id: message.user_id,
            channel_id: message.channel_id,
            source: message.source,
            html: message.html,
        }
    }
}

impl From<Channel> for ChannelModel {
    fn from(channel: Channel) -> Self {
        Self { id: channel.id, name: channel.name, created_at: channel.created_at.timestamp() }
    }
}

/// Markdown that can be stored. The schema has checked its length; what it cannot say is that PostgreSQL stores no NUL.
pub fn storable(source: &types::Source) -> Result<&str, Problem> {
    if source.contains('\0') {
        return Err(Problem::bad_request("`source` contains a NUL character (U+0000); send it without"));
    }
    Ok(source)
}

pub fn no_such_message(id: i64) -> Problem {
    Problem::not_found(format!("there is no message {id}"))
}

pub fn not_your_message(id: i64) -> Problem {
    Problem::forbidden(format!("message {id} is somebody else's; only its author can change it"))
}

/// The token is good, but whom it speaks for is gone.
pub fn caller_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id}, for whom this token speaks, no longer exists; register again"))
}

pub fn key_reused() -> Problem {
    Problem::conflict(
        "idempotency-key-reused",
        "this Idempotency-Key was sent before with another source; make a new key for each new message",
    )
}
