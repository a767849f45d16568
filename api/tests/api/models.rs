//! An entity has the same model in REST answers and in websocket frames.

use flack_api::{
    events::{MessageModel, UserModel},
    messages, users,
};
use serde_json::json;

#[test]
fn a_user_of_an_event_becomes_the_user_of_the_api() {
    let event = UserModel {
        id: 7,
        created_at: 1,
        updated_at: 2,
        last_seen_at: 3,
        password_changed_at: 4,
        nickname: "ada".to_owned(),
        online: true,
    };
    assert_eq!(
        serde_json::to_value(users::types::User::from(event)).unwrap(),
        json!({
            "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "nickname": "ada", "online": true,
            "_links": { "self": "/api/users/7", "messages": "/api/messages", "tokens": "/api/tokens" }
        })
    );
}

#[test]
fn a_message_of_an_event_becomes_the_message_of_the_api_without_a_nickname() {
    let event = MessageModel {
        id: 9,
        created_at: 1,
        updated_at: 2,
        user_id: 7,
        channel_id: 1,
        source: "hello".to_owned(),
        html: "<p>hello</p>".to_owned(),
    };
    assert_eq!(
        serde_json::to_value(messages::types::Message::from(event)).unwrap(),
        json!({
            "id": 9, "created_at": 1, "updated_at": 2, "source": "hello", "html": "<p>hello</p>", "user_id": 7,
            "_links": { "self": "/api/messages/9", "user": "/api/users/7" }
        })
    );
}
