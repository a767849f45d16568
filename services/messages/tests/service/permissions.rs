//! Who can see and write what: a private or direct channel does not exist for a stranger.

use crate::support::{ADA, BOB, CAROL, Service};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Sends every request about a channel and one of its messages, each of which must have the status.
async fn expect_everywhere(service: &Service, channel: &Value, message: &Value, user_id: i64, expected: StatusCode) {
    let (source, id) = (json!({ "source": "x" }), &message["id"]);
    let at = |path: &str| format!("/api/v2/channels/{}{path}", channel["id"]);
    for (method, path, body) in [
        (Method::GET, at(""), Value::Null),
        (Method::PATCH, at(""), json!({ "topic": "x" })),
        (Method::GET, at("/members"), Value::Null),
        (Method::PUT, at(&format!("/members/{user_id}")), Value::Null),
        (Method::PUT, at("/members/1"), Value::Null),
        (Method::DELETE, at(&format!("/members/{user_id}")), Value::Null),
        (Method::DELETE, at("/members/1"), Value::Null),
        (Method::PUT, at("/read"), json!({ "message_id": id })),
        (Method::GET, at("/messages"), Value::Null),
        (Method::POST, at("/messages"), source.clone()),
        (Method::GET, format!("/api/v2/messages/{id}"), Value::Null),
        (Method::PATCH, format!("/api/v2/messages/{id}"), source.clone()),
        (Method::DELETE, format!("/api/v2/messages/{id}"), Value::Null),
        (Method::GET, format!("/api/v2/messages/{id}/replies"), Value::Null),
        (Method::PUT, format!("/api/v2/messages/{id}/reactions/%F0%9F%8E%89"), Value::Null),
        (Method::DELETE, format!("/api/v2/messages/{id}/reactions/%F0%9F%8E%89"), Value::Null),
        (Method::PUT, format!("/api/v2/messages/{id}/pin"), Value::Null),
        (Method::DELETE, format!("/api/v2/messages/{id}/pin"), Value::Null),
        (Method::GET, at("/pins"), Value::Null),
        (Method::GET, format!("/api/v2/messages/{id}/files/1"), Value::Null),
        (Method::POST, at("/messages"), json!({ "source": "x", "thread_id": id })),
        (Method::GET, format!("/api/messages/{id}"), Value::Null),
        (Method::PUT, format!("/api/messages/{id}"), source),
    ] {
        let call = service.request(method.clone(), &path).bearer(&service.token(user_id));
        let call = if body.is_null() { call } else { call.json(&body) };
        assert_eq!(call.send().await.status, expected, "{method} {path} of user {user_id}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_private_or_direct_channel_does_not_exist_for_a_stranger(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let private = service.channel(ADA, json!({ "kind": "private", "name": "plans" })).await;
    let direct = service.channel(ADA, json!({ "kind": "direct", "user_ids": [BOB] })).await;
    let (nothing, no_message) = (json!({ "id": 4711 }), json!({ "id": 4712 }));
    for channel in [private, direct] {
        let message = service.post_to(&channel, ADA, "secret").await;
        expect_everywhere(&service, &channel, &message, CAROL, StatusCode::NOT_FOUND).await;
        // The answer is the one about a channel that does not exist.
        expect_everywhere(&service, &nothing, &no_message, CAROL, StatusCode::NOT_FOUND).await;
        let path = format!("/api/v2/messages/{}", message["id"]);
        service.get(&path, StatusCode::NOT_FOUND).await;
        let seen = service.call(Method::GET, &path, ADA, Value::Null, StatusCode::OK).await.1;
        assert_eq!((&seen["source"], &seen["channel_id"]), (&json!("secret"), &channel["id"]));
    }
    for list in ["/api/messages", "/api/v2/messages", "/api/v2/channels"] {
        let list = service.call(Method::GET, list, CAROL, Value::Null, StatusCode::OK).await.1.to_string();
        assert!(!list.contains("secret") && !list.contains("plans") && !list.contains("direct"), "{list}");
    }
    assert_eq!(service.row::<i64>("select count(*) from messages where source = 'secret'").await, 2);
}

#[sqlx::test(migrations = false)]
async fn a_user_who_has_left_a_private_channel_is_a_stranger(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let private = service.channel(ADA, json!({ "kind": "private", "name": "plans" })).await;
    service.add(&private, ADA, BOB, StatusCode::NO_CONTENT).await;
    let message = service.post_to(&private, BOB, "mine").await;
    service.leave(&private, BOB, BOB, StatusCode::NO_CONTENT).await;
    expect_everywhere(&service, &private, &message, BOB, StatusCode::NOT_FOUND).await;
}

#[sqlx::test(migrations = false)]
async fn a_public_channel_is_read_by_every_signed_in_user_and_written_by_members(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let message = service.post_to(&open, ADA, "for all").await;
    let path = format!("/api/v2/messages/{}", message["id"]);
    let page = service.at_channel(Method::GET, (&open, "/messages"), BOB, Value::Null, StatusCode::OK).await;
    assert_eq!(page["messages"][0]["source"], "for all");
    service.call(Method::GET, &path, BOB, Value::Null, StatusCode::OK).await;
    service.get(&path, StatusCode::NOT_FOUND).await;
    let body = json!({ "source": "hi" });
    service.at_channel(Method::POST, (&open, "/messages"), BOB, body.clone(), StatusCode::FORBIDDEN).await;
    service.call(Method::PATCH, &path, BOB, body, StatusCode::FORBIDDEN).await;
    service.call(Method::DELETE, &path, BOB, Value::Null, StatusCode::FORBIDDEN).await;
    service.add(&open, BOB, BOB, StatusCode::NO_CONTENT).await;
    service.post_to(&open, BOB, "hi").await;
}

#[sqlx::test(migrations = false)]
async fn version_1_has_the_messages_of_general_alone(pool: PgPool) {
    let service = Service::start(pool).await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let other = service.post_to(&open, ADA, "elsewhere").await;
    let general = service.post(ADA, "in general").await;
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!(list["messages"].as_array().map(Vec::len), Some(1), "{list}");
    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(page["messages"][0]["channel_id"], 1);
    service.call(Method::GET, &format!("/api/messages/{}", other["id"]), ADA, Value::Null, StatusCode::NOT_FOUND).await;
    service.put(ADA, &other["id"], "changed", StatusCode::NOT_FOUND).await;
    service.put(ADA, &general["id"], "changed", StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn pages_of_a_channel_have_its_messages_alone_in_both_directions(pool: PgPool) {
    let service = Service::start(pool).await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let mut posted = Vec::new();
    for number in 0..5 {
        service.post(ADA, "between").await;
        posted.push(service.post_to(&open, ADA, &number.to_string()).await["id"].clone());
    }
    service.post(ADA, "behind").await;
    let page = async |query: String| {
        service.at_channel(Method::GET, (&open, &format!("/messages{query}")), ADA, Value::Null, StatusCode::OK).await
    };
    let ids = |page: &Value| -> Vec<Value> {
        page["messages"].as_array().expect("a list").iter().map(|message| message["id"].clone()).collect()
    };
    let newest = page("?limit=2".to_owned()).await;
    assert_eq!((ids(&newest), &newest["later"]), (posted[3..].to_vec(), &Value::Null));
    let earlier = page(format!("?limit=3&before={}", newest["earlier"].as_str().expect("a cursor"))).await;
    assert_eq!((ids(&earlier), &earlier["earlier"]), (posted[..3].to_vec(), &Value::Null));
    let later = page(format!("?limit=3&after={}", earlier["later"].as_str().expect("a cursor"))).await;
    assert_eq!(ids(&later), posted[3..]);
}

#[sqlx::test(migrations = false)]
async fn a_key_belongs_to_its_channel(pool: PgPool) {
    let service = Service::start(pool).await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let key = "0b7cfe9c-9f0f-4c8e-8d9a-2f6d5f7e1a10";
    let post = async |path: &str| {
        let call = service.request(Method::POST, path).bearer(&service.token(ADA)).header("Idempotency-Key", key);
        call.json(&json!({ "source": "once" })).send().await
    };
    let path = format!("/api/v2/channels/{}/messages", open["id"]);
    let first = post(&path).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(first.header("location"), format!("/api/v2/messages/{}", first.json()["id"]));
    assert_eq!(post(&path).await.json(), first.json());
    assert_eq!(post("/api/messages").await.status, StatusCode::CONFLICT);
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 1);
}
