//! The events that users publishes.

use crate::support::{Service, published};
use axum::http::StatusCode;
use flack_api::events::{Event, Operation, UsersEvent};
use serde_json::{Value, json};
use sqlx::PgPool;

fn decode(event: &Value) -> Event<UsersEvent> {
    serde_json::from_value(event.clone()).expect("one of the stream's events")
}

#[sqlx::test(migrations = false)]
async fn every_change_is_published_with_the_correlation_id_of_its_request(pool: PgPool) {
    let service = Service::start(&pool).await;
    let body = json!({ "nickname": "ada", "password": "secret" });
    let register = service.post("/api/users").header("x-correlation-id", "registration-1").json(&body);
    let ada = register.expect(StatusCode::CREATED).await.json()["id"].as_i64().expect("an id");
    let token = service.token(ada);
    let leave = service.delete("/api/users/me").bearer(&token).header("x-correlation-id", "leave-1");
    leave.expect(StatusCode::NO_CONTENT).await;

    let events = published(&pool, 2).await;
    let (registered, left) = (decode(&events[0]), decode(&events[1]));
    assert_eq!((registered.operation, registered.version), (Operation::Insert, 1));
    assert_eq!(registered.correlation_id.as_deref(), Some("registration-1"));
    assert_eq!((left.operation, left.version), (Operation::Update, 2));
    assert_eq!(left.correlation_id.as_deref(), Some("leave-1"));
    let UsersEvent::UserChanged(user) = left.union;
    assert_eq!((user.id, user.nickname.as_str(), user.online), (ada, "ada", false));
}

#[sqlx::test(migrations = false)]
async fn neither_passwords_nor_hashes_are_journaled_or_published(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    let change = service.put(&format!("/api/users/{ada}")).bearer(&token).json(&json!({ "password": "new one" }));
    change.expect(StatusCode::NO_CONTENT).await;

    let journal: Vec<Value> =
        sqlx::query_scalar("select row_data from journal order by id").fetch_all(&pool).await.expect("the journal");
    let events = published(&pool, 2).await;
    assert_eq!((journal.len(), events.len()), (2, 2));
    for text in journal.iter().chain(&events).map(Value::to_string) {
        for secret in ["argon2", "password_hash", "new one", crate::support::PASSWORD] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let (UsersEvent::UserChanged(before), UsersEvent::UserChanged(after)) =
        (decode(&events[0]).union, decode(&events[1]).union);
    assert!(after.password_changed_at > before.password_changed_at);
}
