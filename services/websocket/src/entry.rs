//! An event as a frame: made once, shared by all sockets.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use flack_api::{
    events::{Event, MessageModel, MonolithEvent, Operation, UserModel},
    frames::ModelClass,
    messages::types::{Message, MessageLinks},
    users::types::{User, UserLinks},
};

use crate::cursor::{Cursor, STREAMS};

/// One version of one entity: the same change, whichever stream tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityVersion {
    pub class: ModelClass,
    pub id: i64,
    pub version: i64,
}

/// What clients are told of an event.
#[derive(Debug, Clone)]
pub struct Told {
    pub version: EntityVersion,
    /// The beginning of the frame, up to the cursor.
    pub model: String,
}

/// One `updated_model`, and where it stands.
#[derive(Debug)]
pub struct Entry {
    pub stream: usize,
    pub sequence: u64,
    /// Where this instance stood when it had delivered this one.
    pub position: [u64; STREAMS],
    /// The whole frame, with this instance's cursor.
    pub text: Utf8Bytes,
    /// Where in `text` the cursor begins.
    cursor_at: usize,
}

impl Entry {
    pub fn new(stream: usize, sequence: u64, model: &str, cursor: &Cursor) -> Arc<Self> {
        let cursor_at = model.len();
        let position = std::array::from_fn(|index| cursor.0[index].sequence);
        Arc::new(Self { stream, sequence, position, text: with_cursor(model, cursor).into(), cursor_at })
    }

    /// The frame for a client that stands elsewhere than this instance did: one that has just come back.
    pub fn text_at(&self, cursor: &Cursor) -> Utf8Bytes {
        with_cursor(&self.text[..self.cursor_at], cursor).into()
    }
}

/// A frame, for whom it brings to `cursor`.
pub fn with_cursor(model: &str, cursor: &Cursor) -> String {
    format!("{model}{cursor}\"}}")
}

/// Whether clients are told of an event of this kind. That something was deleted has no frame in this version.
pub fn is_for_clients(kind: &str, operation: Operation) -> bool {
    matches!(kind, "user_changed" | "message_changed") && operation != Operation::Delete
}

/// What clients are told of this event. `None`: nothing.
///
/// Written by hand so that `type` comes first and the cursor last; a test reads it back as a `ServerFrame`.
pub fn told_of(event: Event<MonolithEvent>) -> serde_json::Result<Option<Told>> {
    if event.operation == Operation::Delete {
        return Ok(None);
    }
    let (class, id, model) = match event.union {
        MonolithEvent::UserChanged(user) => {
            (ModelClass::User, user.id, serde_json::to_string(&user_model(user))?)
        }
        MonolithEvent::MessageChanged(message) => {
            (ModelClass::Message, message.id, serde_json::to_string(&message_model(message))?)
        }
        _ => return Ok(None),
    };
    let version = EntityVersion { class, id, version: event.version };
    let model = format!(r#"{{"type":"updated_model","class":"{class}","model":{model},"cursor":""#);
    Ok(Some(Told { version, model }))
}

/// As version 1 of the API answers it.
fn user_model(user: UserModel) -> User {
    User {
        id: user.id,
        created_at: user.created_at,
        updated_at: user.updated_at,
        last_seen_at: user.last_seen_at,
        nickname: user.nickname,
        online: user.online,
        links: UserLinks {
            self_: format!("/api/users/{}", user.id),
            messages: format!("/api/messages?user_id={}", user.id),
            tokens: "/api/tokens".to_owned(),
        },
    }
}

/// As version 1 of the API answers it.
fn message_model(message: MessageModel) -> Message {
    Message {
        id: message.id,
        created_at: message.created_at,
        updated_at: message.updated_at,
        source: message.source,
        html: message.html,
        user_id: message.user_id,
        nickname: None,
        links: MessageLinks {
            self_: format!("/api/messages/{}", message.id),
            user: format!("/api/users/{}", message.user_id),
        },
    }
}

#[cfg(test)]
mod tests {
    use flack_api::frames::ServerFrame;
    use serde_json::json;

    use super::*;

    fn event(operation: &str, union: &serde_json::Value) -> Event<MonolithEvent> {
        let mut event =
            json!({ "id": "users-1", "operation": operation, "time": "2026-11-21T12:00:00Z", "version": 1 });
        event.as_object_mut().unwrap().extend(union.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_message_becomes_the_frame_that_the_schema_says() {
        let message = json!({ "type": "message_changed", "data": { "id": 7, "created_at": 1, "updated_at": 2, "user_id": 3,
            "channel_id": 1, "source": "a \"quoted\" one", "html": "<p>x</p>" } });
        let told = told_of(event("update", &message)).unwrap().unwrap();
        assert_eq!(told.version, EntityVersion { class: ModelClass::Message, id: 7, version: 1 });
        let entry = Entry::new(0, 1, &told.model, &Cursor::default());
        let ServerFrame::UpdatedModel { class, cursor, model } = serde_json::from_str(&entry.text).unwrap()
        else {
            panic!("another frame: {}", entry.text)
        };
        assert_eq!((class, cursor), (ModelClass::Message, Cursor::default().to_string()));
        let expected = json!({ "id": 7, "created_at": 1, "updated_at": 2, "user_id": 3, "source": "a \"quoted\" one",
            "html": "<p>x</p>", "_links": { "self": "/api/messages/7", "user": "/api/users/3" } });
        assert_eq!(serde_json::Value::Object(model), expected);
        assert!(entry.text.starts_with(r#"{"type":"updated_model""#));
    }

    #[test]
    fn what_is_not_for_clients_has_no_frame() {
        let token = json!({ "type": "token_changed", "data": { "id": "5bd1b9a2-4f9b-4f4e-8f0a-9d4b3c2a1f00", "user_id": 3,
            "issued_at": 1, "expires_at": 2 } });
        assert!(told_of(event("insert", &token)).unwrap().is_none());
    }

    #[test]
    fn the_cursor_can_be_another_clients() {
        let entry = Entry::new(0, 1, r#"{"cursor":""#, &Cursor::default());
        let mut cursor = Cursor::default();
        cursor.0[1].sequence = 5;
        assert_eq!(entry.text_at(&cursor).as_str(), r#"{"cursor":"0-0-0.0-5-0"}"#);
    }
}
