//! The events that ui publishes.

use flack_api::events::{Event, PreferencesModel, ReadMarkerModel, UiEvent};
use flack_ui::{SERVICE, events};
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, Service};

#[sqlx::test(migrations = false)]
async fn every_change_is_published_once(pool: PgPool) {
    let service = Service::start(pool).await;
    let preferences =
        json!({"theme": "dark", "notifications": true, "interests": {"words": ["release"], "people": [2]}});
    service.put("/api/ui/preferences", ADA, &preferences, StatusCode::NO_CONTENT).await;
    service.put("/api/ui/read_markers/general", ADA, &json!({"message_id": 7}), StatusCode::NO_CONTENT).await;

    let published = flack_testing::published(SERVICE, &service.pool, events::map, 2).await;
    let published: Vec<(String, UiEvent)> = published
        .into_iter()
        .map(|(subject, event)| {
            let event: Event<UiEvent> = serde_json::from_value(event).expect("an event of ui");
            (subject, event.union)
        })
        .collect();
    let preferences = PreferencesModel {
        user_id: ADA,
        theme: "dark".to_owned(),
        notifications: true,
        words: vec!["release".to_owned()],
        people: vec![2],
        topics: Vec::new(),
    };
    let marker = ReadMarkerModel { user_id: ADA, channel: "general".to_owned(), message_id: 7 };
    assert_eq!(
        published,
        [
            ("flack.ui.preferences_changed.1".to_owned(), UiEvent::PreferencesChanged(preferences)),
            ("flack.ui.read_marker_changed.1:general".to_owned(), UiEvent::ReadMarkerChanged(marker)),
        ]
    );
}
