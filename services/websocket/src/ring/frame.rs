//! The `updated_model` frame of an event. It is serialised once for all connections.

use flack_api::{
    events::{Event, MonolithEvent, Operation},
    frames::ModelClass,
    messages::types::Message,
    users::types::User,
};

use crate::cursor::Cursor;

/// One version of one entity. The same change has the same value in every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityVersion {
    pub class: ModelClass,
    pub id: i64,
    pub version: i64,
}

/// A change that clients receive as one frame.
#[derive(Debug, Clone)]
pub struct Update {
    pub version: EntityVersion,
    /// The frame's text before the cursor.
    pub prefix: String,
}

/// Returns the text of a frame: the prefix, the cursor, and the closing quote and brace.
pub fn with_cursor(prefix: &str, cursor: &Cursor) -> String {
    format!("{prefix}{cursor}\"}}")
}

/// Returns whether clients receive an event of this kind. Version 1 of the protocol has no frame for a deletion.
pub fn is_for_clients(kind: &str, operation: Operation) -> bool {
    matches!(kind, "user_changed" | "message_changed") && operation != Operation::Delete
}

/// Returns what clients receive for this event; `None` if they receive nothing.
///
/// The frame is formatted as text, not serialised as a whole: so `type` comes first, and the cursor comes last and can
/// be replaced.
pub fn update_of(event: Event<MonolithEvent>) -> serde_json::Result<Option<Update>> {
    if event.operation == Operation::Delete {
        return Ok(None);
    }
    let (class, id, model) = match event.union {
        MonolithEvent::UserChanged(user) => (ModelClass::User, user.id, serde_json::to_string(&User::from(user))?),
        MonolithEvent::MessageChanged(message) => {
            (ModelClass::Message, message.id, serde_json::to_string(&Message::from(message))?)
        }
        _ => return Ok(None),
    };
    let version = EntityVersion { class, id, version: event.version };
    let prefix = format!(r#"{{"type":"updated_model","class":"{class}","model":{model},"cursor":""#);
    Ok(Some(Update { version, prefix }))
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
    fn the_frame_of_a_message_matches_the_schema() {
        let message = json!({ "type": "message_changed", "data": { "id": 7, "created_at": 1, "updated_at": 2,
            "user_id": 3, "channel_id": 1, "source": "a \"quoted\" one", "html": "<p>x</p>" } });
        let update = update_of(event("update", &message)).unwrap().unwrap();
        assert_eq!(update.version, EntityVersion { class: ModelClass::Message, id: 7, version: 1 });
        let text = with_cursor(&update.prefix, &Cursor::default());
        let ServerFrame::UpdatedModel { class, cursor, model } = serde_json::from_str(&text).unwrap() else {
            panic!("another frame: {text}")
        };
        assert_eq!((class, cursor), (ModelClass::Message, Cursor::default().to_string()));
        let expected = json!({ "id": 7, "created_at": 1, "updated_at": 2, "user_id": 3, "source": "a \"quoted\" one",
            "html": "<p>x</p>", "_links": { "self": "/api/messages/7", "user": "/api/users/3" } });
        assert_eq!(serde_json::Value::Object(model), expected);
        assert!(text.starts_with(r#"{"type":"updated_model""#));
    }

    #[test]
    fn an_event_that_is_not_for_clients_has_no_frame() {
        let token = json!({ "type": "token_changed", "data": { "id": "5bd1b9a2-4f9b-4f4e-8f0a-9d4b3c2a1f00",
            "user_id": 3, "issued_at": 1, "expires_at": 2 } });
        assert!(update_of(event("insert", &token)).unwrap().is_none());
    }
}
