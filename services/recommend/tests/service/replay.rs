//! The tables are cleared and filled again by a replay.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, Service};

async fn events(service: &Service) {
    service.channel(2, "sea", json!({ "topic": "Birds and fish" })).await;
    service.join(2, ADA).await;
    service.post(1, 2, BOB, "puffin puffin gull").await;
    service.post(2, 2, BOB, "gull").await;
}

#[sqlx::test(migrations = false)]
async fn a_replay_gives_the_same_rows(pool: PgPool) {
    let service = Service::start(pool).await;
    events(&service).await;
    let before = service.counted().await;
    assert!(before.contains(&(2, "gull".to_owned(), 2)), "{before:?}");
    // Again: each event has an effect once.
    events(&service).await;
    assert_eq!(service.counted().await, before);

    sqlx::query("select clear_projections('messages')").execute(&service.pool).await.expect("it clears");
    assert!(service.counted().await.is_empty());
    service.channel(1, "general", json!({})).await;
    events(&service).await;
    assert_eq!(service.counted().await, before);
}
