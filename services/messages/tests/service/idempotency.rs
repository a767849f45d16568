//! Idempotency keys: a retried post creates no second message.

use crate::support::{ADA, BOB, Service};
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

async fn post(service: &Service, user_id: i64, key: Uuid, source: &str) -> (StatusCode, Value) {
    let call = service.request(Method::POST, "/api/messages").bearer(&service.token(user_id));
    let call = call.header("Idempotency-Key", &key.to_string()).json(&json!({ "source": source }));
    let answer = call.send().await;
    (answer.status, answer.json())
}

#[sqlx::test(migrations = false)]
async fn the_same_key_and_source_return_the_same_message(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let (status, first) = post(&service, ADA, key, "hello").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(post(&service, ADA, key, "hello").await, (StatusCode::CREATED, first));
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_key_belongs_to_its_first_source_also_after_an_edit(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let (_, first) = post(&service, ADA, key, "hello").await;
    let (status, problem) = post(&service, ADA, key, "something else").await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    service.put(ADA, &first["id"], "something else", StatusCode::NO_CONTENT).await;
    let (status, again) = post(&service, ADA, key, "hello").await;
    assert_eq!((status, &again["id"]), (StatusCode::CREATED, &first["id"]));
    assert_eq!(again["source"], "something else");
    assert_eq!(post(&service, ADA, key, "something else").await.0, StatusCode::CONFLICT);
}

#[sqlx::test(migrations = false)]
async fn two_users_can_use_the_same_key(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let (_, of_ada) = post(&service, ADA, key, "hello").await;
    let (status, of_bob) = post(&service, BOB, key, "hi").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_ne!(of_ada["id"], of_bob["id"]);
}

#[sqlx::test(migrations = false)]
async fn concurrent_posts_with_one_key_create_one_message_and_its_previews_once(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let answers = join_all((0..8).map(|_| post(&service, ADA, key, "see https://a.example"))).await;
    for (status, message) in &answers {
        assert_eq!((*status, &message["id"]), (StatusCode::CREATED, &answers[0].1["id"]), "{message}");
    }
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 1);
    assert_eq!(service.row::<i64>("select count(*) from link_previews").await, 1);
}

#[sqlx::test(migrations = false)]
async fn without_a_key_the_same_source_creates_two_messages(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post(ADA, "yes").await;
    let second = service.post(ADA, "yes").await;
    assert_ne!(first["id"], second["id"]);
}
