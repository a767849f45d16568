//! The events that tokens publishes.

use crate::support::{ADA, PASSWORD, Service};
use axum::http::StatusCode;
use flack_api::events::{Event, Operation, TokensEvent};
use flack_testing::published;
use flack_tokens::{SERVICE, events};
use serde_json::Value;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn issue_and_revocation_are_published_without_the_token_and_the_private_key(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let call = service.post("/api/tokens").basic("ada", PASSWORD).header("x-correlation-id", "sign-in-1");
    let token = call.expect(StatusCode::OK).await.json()["token"].as_str().expect("a token").to_owned();
    let call = service.delete("/api/tokens").bearer(&token).header("x-correlation-id", "sign-out-1");
    call.expect(StatusCode::NO_CONTENT).await;

    // The key; the token issued, revoked, and marked as published.
    let published = published(SERVICE, &pool, events::map, 4).await;
    let published: Vec<Value> = published.into_iter().map(|(_, event)| event).collect();
    let decode = |event: &Value| -> Event<TokensEvent> {
        serde_json::from_value(event.clone()).expect("one of the stream's events")
    };
    let (key, issued, revoked) = (decode(&published[0]), decode(&published[1]), decode(&published[2]));
    assert!(matches!(key.union, TokensEvent::SigningKeyChanged(_)));
    assert_eq!((issued.operation, issued.correlation_id.as_deref()), (Operation::Insert, Some("sign-in-1")));
    assert_eq!((revoked.operation, revoked.correlation_id.as_deref()), (Operation::Update, Some("sign-out-1")));
    let (TokensEvent::TokenChanged(issued), TokensEvent::TokenChanged(revoked)) = (issued.union, revoked.union) else {
        panic!("not events of the token: {published:?}");
    };
    assert_eq!((issued.user_id, issued.revoked_at), (ADA, None));
    assert!(revoked.id == issued.id && revoked.revoked_at.is_some());

    let journal: Vec<Value> =
        sqlx::query_scalar("select row_data from journal").fetch_all(&pool).await.expect("the journal");
    for row in journal.iter().chain(&published).map(Value::to_string) {
        assert!(!row.contains("private_key") && !row.contains(&token), "{row}");
    }
}
