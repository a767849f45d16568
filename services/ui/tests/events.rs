//! What others hear of ui.

#[expect(dead_code, reason = "each test binary uses its own part")]
mod support;

use std::time::Duration;

use flack_api::events::{Event, PreferencesModel, ReadMarkerModel, UiEvent};
use flack_common::events::{Events, InProcess, Received, Relay, StartOffset};
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use support::{ADA, Service};

const WAIT_MAX: Duration = Duration::from_secs(10);

#[sqlx::test(migrations = false)]
async fn what_is_stored_is_told_once_on_the_stream_of_ui(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let events = Events::InProcess(InProcess::new("ui"));
    let mut reader = events.subscribe("ui", None, StartOffset::Earliest);
    let stopping = CancellationToken::new();
    let relay = tokio::spawn(Relay::new("ui", pool, events, flack_ui::events::map).run(stopping.clone()));

    service
        .put(
            "/api/ui/preferences",
            ADA,
            &json!({"theme": "dark", "notifications": true}),
            StatusCode::NO_CONTENT,
        )
        .await;
    service.put("/api/ui/read_markers/general", ADA, &json!({"message_id": 7}), StatusCode::NO_CONTENT).await;

    let mut heard = Vec::new();
    while heard.len() < 2 {
        let reading = timeout(WAIT_MAX, reader.next()).await.expect("the relay publishes what was committed");
        if let Received::Message(message) = reading {
            let event: Event<UiEvent> = serde_json::from_slice(&message.payload).expect("an event of ui");
            heard.push((message.subject, event.union));
        }
    }
    let preferences = PreferencesModel { user_id: ADA, theme: "dark".to_owned(), notifications: true };
    let marker = ReadMarkerModel { user_id: ADA, channel: "general".to_owned(), message_id: 7 };
    assert_eq!(
        heard,
        [
            ("flack.ui.preferences_changed.1".to_owned(), UiEvent::PreferencesChanged(preferences)),
            ("flack.ui.read_marker_changed.1:general".to_owned(), UiEvent::ReadMarkerChanged(marker)),
        ]
    );
    stopping.cancel();
    relay.await.expect("the relay stops when asked");
}
