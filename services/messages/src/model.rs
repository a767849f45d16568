//! Messages: rows, their events and API models, limits, and problems.

pub mod channels;
pub mod files;
pub mod reactions;

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::{FileModel, MessageModel, PreviewModel, ReactionModel},
    messages::types,
    messages_v2::types as types_v2,
};
use serde::Deserialize;

use crate::{mentions::Mentions, model::files::FILE_MODEL_BYTES_MAX, render::PREVIEW_HTML_BYTES_MAX};

/// `GET /api/messages` returns at most this many messages; a client reads on with `updated_since`.
pub const LIST_MESSAGES_MAX: i64 = 1_000;

/// JSON of a page of `GET /api/messages`. An ordinary message has less than 1 KiB, so few pages end because of it.
pub const LIST_BYTES_MAX: usize = 1_048_576;

/// Source and HTML of a page of `GET /api/v2/messages`. The message that reaches it is the last one.
pub const PAGE_BYTES_MAX: i64 = 1_048_576;

/// Of the JSON of a message, names, numbers and links: six numbers of at most 20 digits, and less than 200 characters.
const JSON_FRAME_BYTES_MAX: usize = 400;

/// A control character, such as U+0001, takes six characters in JSON.
const JSON_BYTES_PER_BYTE_MAX: usize = 6;

/// Pinned messages of a channel. They are one list, which has no pages.
pub const PINS_PER_CHANNEL_MAX: i64 = 50;

/// `GET /api/messages` returns no older changes.
pub const LIST_HOURS_MAX: i32 = 24;

/// A row of `messages` without the columns that never leave the database.
#[derive(Debug, Clone, Default, PartialEq, sqlx::FromRow, Deserialize)]
pub struct Message {
    pub id: i64,
    pub user_id: i64,
    pub channel_id: i64,
    pub source: String,
    pub html: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    // Version 1 does not have the rest, nor have journal rows of older versions.
    #[sqlx(default)]
    #[serde(default)]
    pub version: i64,
    #[sqlx(default)]
    #[serde(default)]
    pub edited_at: Option<DateTime<Utc>>,
    #[sqlx(default)]
    #[serde(default)]
    pub deleted_at: Option<DateTime<Utc>>,
    #[sqlx(default)]
    #[serde(default)]
    pub thread_id: Option<i64>,
    #[sqlx(default)]
    #[serde(default)]
    pub reply_count: i32,
    #[sqlx(default)]
    #[serde(default)]
    pub last_reply_at: Option<DateTime<Utc>>,
    #[sqlx(default, json(nullable))]
    #[serde(default)]
    pub mentions: Option<Mentions>,
    #[sqlx(default, json)]
    #[serde(default)]
    pub reactions: Vec<ReactionModel>,
    #[sqlx(default)]
    #[serde(default)]
    pub pinned_at: Option<DateTime<Utc>>,
    #[sqlx(default)]
    #[serde(default)]
    pub annotated_version: i64,
    #[sqlx(default, json)]
    #[serde(default)]
    pub files: Vec<FileModel>,
    #[sqlx(default, json)]
    #[serde(default)]
    pub previews: Vec<PreviewModel>,
    #[sqlx(default)]
    #[serde(default)]
    pub previews_start: Option<i32>,
    /// The author's nickname, in lists that ask for it.
    #[sqlx(default)]
    #[serde(default)]
    pub nickname: Option<String>,
}

/// The columns of a message in version 2. They are in a statement of one table.
pub const COLUMNS: &str = "id, user_id, channel_id, source, html, created_at, updated_at, version, edited_at, \
     deleted_at, thread_id, reply_count, last_reply_at, mentions, reactions, pinned_at, annotated_version, files, \
     previews, previews_start";

impl Message {
    /// Returns the bytes that every client receives because of a change of reactions, replies or the pin.
    pub fn fan_out_bytes(&self) -> u32 {
        fan_out_bytes(self.source.len() + self.html.len(), self.files.len())
    }
}

fn fan_out_bytes(text_bytes: usize, files: usize) -> u32 {
    u32::try_from(text_bytes + files * FILE_MODEL_BYTES_MAX).unwrap_or(u32::MAX)
}

/// A message as its author sent it, with everything derived from it.
#[derive(Debug)]
pub struct Rendered<'a> {
    pub source: &'a str,
    pub html: String,
    /// Addresses of the pages to preview.
    pub links: Vec<String>,
    pub mentions: Mentions,
}

impl Rendered<'_> {
    /// Returns the bytes that every client receives because of this message with its files, and its future previews.
    pub fn fan_out_bytes(&self, files: usize) -> u32 {
        fan_out_bytes(self.source.len() + self.html.len() + self.links.len() * PREVIEW_HTML_BYTES_MAX, files)
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
            previews: message.previews,
            previews_start: message.previews_start,
            edited_at: message.edited_at.map(|time| time.timestamp()),
            deleted_at: message.deleted_at.map(|time| time.timestamp()),
            mentions_everyone: message.mentions.as_ref().is_some_and(|mentions| mentions.everyone).then_some(true),
            mentioned_user_ids: message.mentions.into_iter().flat_map(|mentions| mentions.users.into_keys()).collect(),
            reactions: message.reactions,
            thread_id: message.thread_id,
            reply_count: (message.reply_count > 0).then_some(message.reply_count),
            last_reply_at: message.last_reply_at.map(|time| time.timestamp()),
            pinned_at: message.pinned_at.map(|time| time.timestamp()),
            annotated_version: (message.annotated_version > 0).then_some(message.annotated_version),
            files: message.files,
        }
    }
}

/// With the fractions of a second, which an event does not have.
impl From<Message> for types_v2::Message {
    fn from(mut message: Message) -> Self {
        let Message { version, created_at, updated_at, edited_at, deleted_at, last_reply_at, pinned_at, .. } = message;
        let nickname = message.nickname.take();
        let model = Self::from((MessageModel::from(message), version));
        let last_reply_at = model.last_reply_at.and(last_reply_at);
        Self { nickname, created_at, updated_at, edited_at, deleted_at, last_reply_at, pinned_at, ..model }
    }
}

impl From<Message> for types::Message {
    fn from(mut message: Message) -> Self {
        Self { nickname: message.nickname.take(), ..MessageModel::from(message).into() }
    }
}

/// Returns the page of a list: the messages until their JSON would exceed `LIST_BYTES_MAX`.
///
/// The client continues with the second of the last message as `updated_since`. Therefore a page ends only after a
/// message of a later second than its own `updated_since`: otherwise the next page would be the same. It does not end
/// between equal times either, because a time without a fraction is not later than its second.
pub fn page(messages: Vec<Message>, updated_since: Option<i64>) -> Vec<types::Message> {
    // Almost every list is one page. Then its JSON is not written twice.
    if messages.iter().map(json_bytes_max).sum::<usize>() <= LIST_BYTES_MAX {
        return messages.into_iter().map(Into::into).collect();
    }
    let (mut page, mut bytes, mut last_change) = (Vec::new(), 0, DateTime::UNIX_EPOCH);
    for message in messages {
        let changed_at = message.updated_at;
        let message = types::Message::from(message);
        bytes += serde_json::to_string(&message).as_ref().map_or(0, String::len);
        let can_end = last_change.timestamp() > updated_since.unwrap_or_default() && last_change != changed_at;
        if can_end && bytes > LIST_BYTES_MAX {
            break;
        }
        last_change = changed_at;
        page.push(message);
    }
    page
}

/// Returns the longest JSON that a message can have.
fn json_bytes_max(message: &Message) -> usize {
    let nickname = message.nickname.as_ref().map_or(0, String::len);
    JSON_FRAME_BYTES_MAX + JSON_BYTES_PER_BYTE_MAX * (message.source.len() + message.html.len() + nickname)
}

pub fn nul_in_source() -> Problem {
    // The schema checks the length; it cannot express that PostgreSQL stores no NUL.
    Problem::bad_request("`source` contains a NUL character (U+0000), which cannot be stored; remove it")
}

pub fn no_such_message(id: i64) -> Problem {
    Problem::not_found(format!("there is no message {id}; check its id"))
}

pub fn not_your_message(id: i64) -> Problem {
    Problem::forbidden(format!("message {id} has another author; only its author can change it"))
}

/// The token is valid, but its user was deleted.
pub fn author_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id} of this token no longer exists; register again"))
}

/// `thread_id` of a new message names no message that can have replies.
pub fn no_such_thread(id: i64) -> Problem {
    Problem::not_found(format!("there is no message {id} in this channel that is no reply itself; check `thread_id`"))
}

/// The read position is a message of another channel, or none.
pub fn no_message_of_channel(id: i64, channel_id: i64) -> Problem {
    Problem::not_found(format!("channel {channel_id} has no message {id}; check `message_id`"))
}

pub fn too_many_pins(channel_id: i64) -> Problem {
    Problem::conflict(
        "too-many-pins",
        format!("channel {channel_id} has {PINS_PER_CHANNEL_MAX} pinned messages, which is the limit; unpin one first"),
    )
}

/// `If-Match` names a version with another content.
pub fn precondition_failed(version: i64) -> Problem {
    Problem::precondition_failed(format!(
        "the content of the present version \"{version}\" is not that of `If-Match`; read it again, and decide again"
    ))
}

pub fn key_reused() -> Problem {
    Problem::conflict(
        "idempotency-key-reused",
        "another message was posted with this Idempotency-Key; use a new key for each new message",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(source: &str, nickname: Option<String>) -> Message {
        let time = DateTime::from_timestamp(253_402_300_799, 0).expect("a time");
        let (source, html) = (source.to_owned(), source.repeat(2));
        Message {
            id: i64::MAX,
            user_id: i64::MIN,
            channel_id: 1,
            source,
            html,
            created_at: time,
            updated_at: time,
            nickname,
            ..Message::default()
        }
    }

    #[test]
    fn no_json_of_a_message_is_longer_than_assumed() {
        for (source, nickname) in [("\u{1}", None), ("", Some("\u{1}".repeat(32))), ("\"\\<é", Some("ada".to_owned()))]
        {
            let message = message(source, nickname);
            let (max, message) = (json_bytes_max(&message), types::Message::from(message));
            let json = serde_json::to_string(&message).expect("JSON");
            assert!(json.len() <= max, "{} bytes, but {max} were assumed: {json}", json.len());
        }
    }
}
