//! An entity has the same model in REST answers and in websocket frames.

use flack_api::{
    events::{MessageModel, UserModel},
    messages, messages_v2, users,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, from_value, json, to_value};

fn mapped<Event: DeserializeOwned, Model: From<Event> + Serialize>(event: Value) -> Value {
    to_value(Model::from(from_value(event).unwrap())).unwrap()
}

#[test]
fn a_user_of_an_event_becomes_the_user_of_the_api() {
    let event = json!({
        "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 4, "nickname": "ada",
        "online": true
    });
    assert_eq!(
        mapped::<UserModel, users::types::User>(event),
        json!({
            "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "nickname": "ada", "online": true,
            "_links": { "self": "/api/users/7", "messages": "/api/messages", "tokens": "/api/tokens" }
        })
    );
}

#[test]
fn a_message_of_an_event_becomes_the_message_of_the_api_without_a_nickname() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 2, "user_id": 7, "channel_id": 1, "source": "hello",
        "html": "<p>hello</p>"
    });
    assert_eq!(
        mapped::<MessageModel, messages::types::Message>(event),
        json!({
            "id": 9, "created_at": 1, "updated_at": 2, "source": "hello", "html": "<p>hello</p>", "user_id": 7,
            "_links": { "self": "/api/messages/9", "user": "/api/users/7" }
        })
    );
}

#[test]
fn a_deleted_message_of_an_event_becomes_a_message_of_version_2_with_its_times() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 3, "edited_at": 2, "deleted_at": 3, "user_id": 7, "channel_id": 5,
        "source": "", "html": ""
    });
    assert_eq!(
        mapped::<MessageModel, messages_v2::types::Message>(event),
        json!({
            "id": 9, "cursor": "AQAAAAAAAAAJ", "created_at": "1970-01-01T00:00:01Z",
            "updated_at": "1970-01-01T00:00:03Z", "edited_at": "1970-01-01T00:00:02Z",
            "deleted_at": "1970-01-01T00:00:03Z", "channel_id": 5, "user_id": 7, "source": "", "html": ""
        })
    );
}
