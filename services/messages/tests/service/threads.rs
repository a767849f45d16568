//! Replies to messages.

use crate::support::{ADA, BOB, CAROL, Service};
use flack_api::events::{Event, MessageModel, MessagesEvent};
use flack_messages::{SERVICE, events};
use flack_testing::published;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn reply(service: &Service, channel: &Value, user_id: i64, first: &Value, expected: StatusCode) -> Value {
    let body = json!({ "source": "a reply", "thread_id": first["id"] });
    service.at_channel(Method::POST, (channel, "/messages"), user_id, body, expected).await
}

async fn seen(service: &Service, message: &Value) -> Value {
    service.get(&format!("/api/v2/messages/{}", message["id"]), StatusCode::OK).await
}

async fn replies(service: &Service, message: &Value, query: &str) -> Value {
    service.get(&format!("/api/v2/messages/{}/replies{query}", message["id"]), StatusCode::OK).await
}

fn ids(page: &Value) -> Vec<Value> {
    page["messages"].as_array().expect("a list").iter().map(|message| message["id"].clone()).collect()
}

fn general() -> Value {
    json!({ "id": 1 })
}

#[sqlx::test(migrations = false)]
async fn replies_are_in_their_thread_and_counted_at_its_first_message(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let first = service.post_to(&general(), ADA, "first").await;
    assert_eq!((first.get("reply_count"), first.get("last_reply_at"), first.get("thread_id")), (None, None, None));
    let mut posted = Vec::new();
    for user_id in [BOB, ADA, BOB] {
        posted.push(reply(&service, &general(), user_id, &first, StatusCode::CREATED).await);
    }
    let second = service.post_to(&general(), BOB, "second").await;
    assert!(posted.iter().all(|reply| reply["thread_id"] == first["id"]), "{posted:?}");
    let changed = seen(&service, &first).await;
    assert_eq!((&changed["reply_count"], &changed["last_reply_at"]), (&json!(3), &posted[2]["created_at"]));
    assert_eq!((&changed["updated_at"], &changed["version"]), (&first["updated_at"], &json!(4)));

    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(ids(&page), [first["id"].clone(), second["id"].clone()]);
    assert_eq!(page["messages"][0]["reply_count"], 3);
    let newest = replies(&service, &first, "?limit=2").await;
    assert_eq!(ids(&newest), [posted[1]["id"].clone(), posted[2]["id"].clone()]);
    assert_eq!((&newest["later"], &newest["messages"][0]["nickname"]), (&Value::Null, &json!("ada")));
    let earlier = format!("?before={}", newest["earlier"].as_str().expect("a cursor"));
    let earlier = replies(&service, &first, &earlier).await;
    assert_eq!((ids(&earlier), &earlier["earlier"]), (vec![posted[0]["id"].clone()], &Value::Null));
    let later = format!("?after={}", earlier["later"].as_str().expect("a cursor"));
    assert_eq!(ids(&replies(&service, &first, &later).await), ids(&newest));
    for message in [&second, &posted[0]] {
        let none = json!({ "messages": [], "earlier": null, "later": null });
        assert_eq!(replies(&service, message, "").await, none);
    }
}

#[sqlx::test(migrations = false)]
async fn a_deleted_reply_is_not_counted_and_a_deleted_message_keeps_its_replies(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post_to(&general(), ADA, "first").await;
    let delete = async |message: &Value, user_id: i64| {
        let path = format!("/api/v2/messages/{}", message["id"]);
        service.call(Method::DELETE, &path, user_id, Value::Null, StatusCode::NO_CONTENT).await;
    };
    let one = reply(&service, &general(), BOB, &first, StatusCode::CREATED).await;
    let two = reply(&service, &general(), BOB, &first, StatusCode::CREATED).await;
    for _ in 0..2 {
        delete(&one, BOB).await;
    }
    assert_eq!(seen(&service, &first).await["reply_count"], 1);
    delete(&first, ADA).await;
    assert_eq!(seen(&service, &first).await["reply_count"], 1);
    assert_eq!(ids(&replies(&service, &first, "").await), [one["id"].clone(), two["id"].clone()]);
    reply(&service, &general(), BOB, &first, StatusCode::NOT_FOUND).await;
    delete(&two, BOB).await;
    let changed = seen(&service, &first).await;
    assert_eq!((changed.get("reply_count"), changed.get("last_reply_at")), (None, None));
}

#[sqlx::test(migrations = false)]
async fn a_reply_is_to_a_first_message_of_the_same_channel(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let team = service.channel(ADA, json!({ "kind": "private", "name": "team" })).await;
    let first = service.post_to(&team, ADA, "first").await;
    let of_first = reply(&service, &team, ADA, &first, StatusCode::CREATED).await;
    let elsewhere = service.post_to(&general(), ADA, "elsewhere").await;
    for message in [&of_first, &elsewhere, &json!({ "id": 4711 })] {
        let problem = reply(&service, &team, ADA, message, StatusCode::NOT_FOUND).await;
        assert!(problem["detail"].as_str().expect("a text").contains("thread_id"), "{problem}");
    }
    reply(&service, &general(), CAROL, &first, StatusCode::NOT_FOUND).await;
    reply(&service, &team, CAROL, &first, StatusCode::NOT_FOUND).await;
    reply(&service, &team, ADA, &json!({ "id": 0 }), StatusCode::BAD_REQUEST).await;
    let path = format!("/api/v2/messages/{}/replies", first["id"]);
    service.call(Method::GET, &path, CAROL, Value::Null, StatusCode::NOT_FOUND).await;
    service.get(&path, StatusCode::NOT_FOUND).await;
    let archive = json!({ "archived": true });
    service.at_channel(Method::PATCH, (&team, ""), ADA, archive, StatusCode::OK).await;
    let problem = reply(&service, &team, ADA, &first, StatusCode::CONFLICT).await;
    assert_eq!(problem["type"], "/api/docs/problems#channel-archived");
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 3);
}

#[sqlx::test(migrations = false)]
async fn a_repeated_reply_is_stored_and_counted_once(pool: PgPool) {
    let service = Service::start(pool).await;
    let (first, other) = (service.post_to(&general(), ADA, "1").await, service.post_to(&general(), ADA, "2").await);
    let post = async |thread_id: &Value| {
        let call = service.request(Method::POST, "/api/v2/channels/1/messages").bearer(&service.token(BOB));
        let call = call.header("Idempotency-Key", "0b7cfe9c-9f0f-4c8e-8d9a-2f6d5f7e1a10");
        call.json(&json!({ "source": "once", "thread_id": thread_id })).send().await
    };
    let once = post(&first["id"]).await;
    assert_eq!(once.status, StatusCode::CREATED);
    assert_eq!(post(&first["id"]).await.json(), once.json());
    assert_eq!(post(&other["id"]).await.status, StatusCode::CONFLICT);
    assert_eq!(seen(&service, &first).await["reply_count"], 1);
    assert_eq!(seen(&service, &other).await.get("reply_count"), None);
}

#[sqlx::test(migrations = false)]
async fn replies_are_not_unread_messages(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post_to(&general(), ADA, "first").await;
    let of_first = reply(&service, &general(), ADA, &first, StatusCode::CREATED).await;
    assert_eq!(service.seen(&general(), BOB).await["member"]["unread"], 1);
    let position = json!({ "message_id": of_first["id"] });
    service.at_channel(Method::PUT, (&general(), "/read"), BOB, position, StatusCode::NO_CONTENT).await;
    let member = service.seen(&general(), BOB).await["member"].clone();
    assert_eq!((&member["unread"], &member["last_read_message_id"]), (&json!(0), &of_first["id"]));
}

#[sqlx::test(migrations = false)]
async fn in_version_1_a_reply_is_a_message_and_its_first_message_does_not_change(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post(ADA, "first").await;
    let of_first = reply(&service, &general(), BOB, &first, StatusCode::CREATED).await;
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!(ids(&list), [first["id"].clone(), of_first["id"].clone()]);
    assert_eq!(list["messages"][0], first);
    assert_eq!(service.get(&format!("/api/messages/{}", first["id"]), StatusCode::OK).await, first);
    service.put(BOB, &of_first["id"], "changed in version 1", StatusCode::NO_CONTENT).await;
    assert_eq!(seen(&service, &of_first).await["thread_id"], first["id"]);
}

#[sqlx::test(migrations = false)]
async fn a_reply_is_published_with_its_first_message(pool: PgPool) {
    let service = Service::start(pool).await;
    let first = service.post(ADA, "first").await;
    let of_first = reply(&service, &general(), BOB, &first, StatusCode::CREATED).await;
    service.put(ADA, &first["id"], "edited", StatusCode::NO_CONTENT).await;
    let published = published(SERVICE, &service.pool, events::map, 5).await;
    let messages: Vec<(i64, MessageModel)> = published
        .into_iter()
        .filter_map(|(_, event)| {
            let event: Event<MessagesEvent> = serde_json::from_value(event).expect("an event of the schema");
            let MessagesEvent::MessageChanged(message) = event.union else { return None };
            Some((event.version, message))
        })
        .collect();
    let of = |id: &Value| -> Vec<_> { messages.iter().filter(|(_, message)| *id == message.id).collect() };
    let [(1, reply)] = &of(&of_first["id"])[..] else { panic!("{messages:?}") };
    assert_eq!((reply.thread_id, reply.annotated_version), (first["id"].as_i64(), None));
    let [(1, posted), (2, answered), (3, edited)] = &of(&first["id"])[..] else { panic!("{messages:?}") };
    assert_eq!((posted.reply_count, answered.reply_count, edited.reply_count), (None, Some(1), Some(1)));
    assert_eq!((posted.annotated_version, answered.annotated_version), (None, Some(2)));
    assert_eq!(edited.annotated_version, Some(2), "an edit is a change in version 1, too");
}

#[sqlx::test(migrations = false)]
async fn concurrent_replies_are_all_counted(pool: PgPool) {
    let service = Service::start(pool).await;
    let general = general();
    let first = service.post_to(&general, ADA, "first").await;
    let posting = (0..10).map(|_| reply(&service, &general, BOB, &first, StatusCode::CREATED));
    futures::future::join_all(posting).await;
    assert_eq!(seen(&service, &first).await["reply_count"], 10);
}
