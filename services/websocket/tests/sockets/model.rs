//! The entities that the tests publish.

use flack_testing::Nats;
use serde_json::{Value, json};

pub async fn publish_message(nats: &Nats, id: i64, source: &str) {
    nats.publish("messages", "message_changed", message(id, source)).await;
}

/// Publishes a message of a channel.
pub async fn publish_in(nats: &Nats, channel_id: i64, id: i64, source: &str) {
    let mut message = message(id, source);
    message["channel_id"] = json!(channel_id);
    nats.publish("messages", "message_changed", message).await;
}

/// A message of `general`.
pub fn message(id: i64, source: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 1, "user_id": 1, "channel_id": 1, "source": source,
        "html": format!("<p>{source}</p>") })
}

pub async fn publish_channel(nats: &Nats, id: i64, kind: &str) {
    let channel = json!({ "id": id, "name": format!("channel-{id}"), "created_at": 1, "kind": kind, "topic": "" });
    nats.publish("messages", "channel_changed", channel).await;
}

/// The membership of a user in a channel.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub channel_id: i64,
    pub user_id: i64,
    pub version: i64,
    pub has_left: bool,
    /// Seconds since the user joined or left. After a minute, only the read position has changed.
    pub age_seconds: i64,
}

pub fn member(channel_id: i64, user_id: i64, version: i64) -> Member {
    Member { channel_id, user_id, version, has_left: false, age_seconds: 0 }
}

impl Member {
    pub fn left(self) -> Self {
        Self { has_left: true, ..self }
    }

    pub async fn publish(self, nats: &Nats) {
        let Self { channel_id, user_id, version, .. } = self;
        let now = 1_795_262_400;
        let changed_at = now - self.age_seconds;
        let entity_id = format!("{channel_id}:{user_id}");
        let id = format!("messages-{entity_id}-{version}");
        let event = json!({ "id": id, "operation": "update", "time": "2026-11-21T12:00:00Z", "version": version,
            "type": "channel_member_changed", "data": { "channel_id": channel_id, "user_id": user_id,
            "joined_at": changed_at, "left_at": self.has_left.then_some(changed_at), "last_read_message_id": 3 } });
        nats.publish_event("messages", &entity_id, &id, event).await;
    }
}

pub fn user(id: i64, nickname: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 1000,
        "nickname": nickname, "online": true })
}
