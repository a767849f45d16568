//! The entities that the tests publish.

use flack_testing::Nats;
use serde_json::{Value, json};

pub async fn publish_message(nats: &Nats, id: i64, source: &str) {
    nats.publish("messages", "message_changed", message(id, source)).await;
}

pub fn message(id: i64, source: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 1, "user_id": 1, "channel_id": 1, "source": source,
        "html": format!("<p>{source}</p>") })
}

pub fn user(id: i64, nickname: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 1000,
        "nickname": nickname, "online": true })
}
