//! Posting again what may have arrived: once is enough.

use crate::support::{ADA, BOB, Service, request};
use futures::future::join_all;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

async fn post(service: &Service, user_id: i64, key: Uuid, source: &str) -> (StatusCode, Value) {
    let body = json!({ "source": source });
    let request = request(Method::POST, "/api/messages", &body)
        .header(header::AUTHORIZATION, format!("Bearer {}", service.token(user_id)))
        .header("Idempotency-Key", key.to_string())
        .body(body.to_string().into())
        .expect("a request");
    let (status, _, answer) = service.send(request).await;
    (status, answer)
}

#[sqlx::test(migrations = false)]
async fn the_same_key_and_source_give_the_same_message_again(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let (status, first) = post(&service, ADA, key, "hello").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(post(&service, ADA, key, "hello").await, (StatusCode::CREATED, first));
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_key_is_good_for_one_source_also_after_the_message_was_edited(pool: PgPool) {
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
async fn the_keys_of_two_users_have_nothing_to_do_with_each_other(pool: PgPool) {
    let service = Service::start(pool).await;
    let key = Uuid::new_v4();
    let (_, of_ada) = post(&service, ADA, key, "hello").await;
    let (status, of_bob) = post(&service, BOB, key, "hi").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_ne!(of_ada["id"], of_bob["id"]);
}

#[sqlx::test(migrations = false)]
async fn a_key_that_arrives_many_times_at_once_makes_one_message_with_its_previews_once(pool: PgPool) {
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
async fn without_a_key_the_same_words_are_two_messages(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post(ADA, "yes").await;
    let second = service.post(ADA, "yes").await;
    assert_ne!(first["id"], second["id"]);
}
