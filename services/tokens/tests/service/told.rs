//! What others hear of tokens.

use crate::support::{ADA, PASSWORD, Service};
use axum::http::StatusCode;
use flack_api::events::{Event, Operation, TokensEvent};
use flack_common::events::{Events, InProcess, Received, Relay, StartOffset};
use flack_tokens::{SERVICE, events};
use serde_json::Value;
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

#[sqlx::test(migrations = false)]
async fn a_token_and_its_end_are_told_but_neither_the_token_nor_the_private_key(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let call = service.post("/api/tokens").basic("ada", PASSWORD).header("x-correlation-id", "sign-in-1");
    let token = call.expect(StatusCode::OK).await.json()["token"].as_str().expect("a token").to_owned();
    let call = service.delete("/api/tokens").bearer(&token).header("x-correlation-id", "sign-out-1");
    call.expect(StatusCode::NO_CONTENT).await;

    // The key, the token, that it is revoked, that everybody was told.
    let told = published(&pool, 4).await;
    let decode = |event: &Value| -> Event<TokensEvent> {
        serde_json::from_value(event.clone()).expect("one of the stream's events")
    };
    let (key, issued, revoked) = (decode(&told[0]), decode(&told[1]), decode(&told[2]));
    assert!(matches!(key.union, TokensEvent::SigningKeyChanged(_)));
    assert_eq!((issued.operation, issued.correlation_id.as_deref()), (Operation::Insert, Some("sign-in-1")));
    assert_eq!(
        (revoked.operation, revoked.correlation_id.as_deref()),
        (Operation::Update, Some("sign-out-1"))
    );
    let (TokensEvent::TokenChanged(issued), TokensEvent::TokenChanged(revoked)) =
        (issued.union, revoked.union)
    else {
        panic!("these are about the token: {told:?}");
    };
    assert_eq!((issued.user_id, issued.revoked_at), (ADA, None));
    assert!(revoked.id == issued.id && revoked.revoked_at.is_some());

    let journal: Vec<Value> =
        sqlx::query_scalar("select row_data from journal").fetch_all(&pool).await.expect("the journal");
    for row in journal.iter().chain(&told).map(Value::to_string) {
        assert!(!row.contains("private_key") && !row.contains(&token), "{row}");
    }
}

async fn published(pool: &PgPool, count: usize) -> Vec<Value> {
    let local = Events::InProcess(InProcess::new(SERVICE));
    let mut reader = local.subscribe(SERVICE, None, StartOffset::Earliest);
    let stopping = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(SERVICE, pool.clone(), local, events::map).run(stopping.clone()));
    let mut published = Vec::new();
    while published.len() < count {
        if let Received::Message(message) = timeout(PATIENCE, reader.next()).await.expect("an event") {
            published.push(serde_json::from_slice(&message.payload).expect("JSON"));
        }
    }
    stopping.cancel();
    relay.await.expect("the relay ends");
    published
}
