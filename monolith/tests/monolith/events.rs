//! The events that the monolith publishes.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use flack_api::events::{Event, MonolithEvent};
use flack_common::events::{Received, StartOffset};
use flack_monolith::SERVICE;
use flack_testing::WAIT_MAX;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::support::{Monolith, PASSWORD};

#[sqlx::test(migrations = false)]
async fn the_changes_of_every_part_are_published_without_secrets(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    flack.post_message(&token, "hello").await;
    let preferences = json!({ "theme": "dark", "notifications": true });
    let set = flack.put("/api/ui/preferences").bearer(&token).json(&preferences);
    set.expect(StatusCode::NO_CONTENT).await;
    let mark = flack.put("/api/ui/read_markers/general").bearer(&token).json(&json!({ "message_id": 1 }));
    mark.expect(StatusCode::NO_CONTENT).await;
    let read = flack.put("/api/v2/channels/1/read").bearer(&token).json(&json!({ "message_id": 1 }));
    read.expect(StatusCode::NO_CONTENT).await;

    let mut kinds = BTreeSet::new();
    let mut reader = flack.events.subscribe(SERVICE, None, StartOffset::Earliest);
    while kinds.len() < 8 {
        let Received::Message(message) = timeout(WAIT_MAX, reader.next()).await.expect("an event") else {
            continue;
        };
        let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
        serde_json::from_value::<Event<MonolithEvent>>(event.clone()).expect("one of the stream's events");
        let text = event.to_string();
        for secret in ["argon2", "password_hash", "private_key", PASSWORD, &token] {
            assert!(!text.contains(secret), "{text}");
        }
        kinds.insert(event["type"].as_str().expect("a type").to_owned());
    }
    let expected = [
        "channel_changed",
        "channel_member_changed",
        "message_changed",
        "preferences_changed",
        "read_marker_changed",
        "signing_key_changed",
        "token_changed",
        "user_changed",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
