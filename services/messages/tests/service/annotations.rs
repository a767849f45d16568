//! Reactions and pins.

use crate::support::{ADA, BOB, CAROL, Service};
use flack_api::events::{Event, MessagesEvent};
use flack_messages::{SERVICE, events};
use flack_testing::published;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

const THUMBS_UP: &str = "%F0%9F%91%8D";
const PARTY: &str = "%F0%9F%8E%89";

fn path(message: &Value, below: &str) -> String {
    format!("/api/v2/messages/{}{below}", message["id"])
}

async fn react(service: &Service, method: Method, message: &Value, user_id: i64, emoji: &str, expected: StatusCode) {
    let path = path(message, &format!("/reactions/{emoji}"));
    service.call(method, &path, user_id, Value::Null, expected).await;
}

async fn pin(service: &Service, method: Method, message: &Value, user_id: i64, expected: StatusCode) -> Value {
    service.call(method, &path(message, "/pin"), user_id, Value::Null, expected).await.1
}

async fn pins(service: &Service, channel: &Value, user_id: i64) -> Vec<Value> {
    let list = service.at_channel(Method::GET, (channel, "/pins"), user_id, Value::Null, StatusCode::OK).await;
    list["messages"].as_array().expect("a list").clone()
}

#[sqlx::test(migrations = false)]
async fn each_user_has_each_reaction_once_and_removes_the_own_one(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post_to(&json!({ "id": 1 }), ADA, "hello").await;
    let seen = async || service.get(&path(&message, ""), StatusCode::OK).await;
    for (user_id, emoji) in [(BOB, THUMBS_UP), (ADA, THUMBS_UP), (BOB, PARTY), (BOB, THUMBS_UP)] {
        react(&service, Method::PUT, &message, user_id, emoji, StatusCode::NO_CONTENT).await;
    }
    let reacted = seen().await;
    let expected = json!([
        { "emoji": "👍", "count": 2, "user_ids": [BOB, ADA] },
        { "emoji": "🎉", "count": 1, "user_ids": [BOB] },
    ]);
    assert_eq!((&reacted["reactions"], &reacted["version"]), (&expected, &json!(4)), "a repetition is no change");
    assert_eq!(reacted["updated_at"], message["updated_at"]);
    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(page["messages"][0]["reactions"], expected);
    for (user_id, emoji) in [(BOB, THUMBS_UP), (BOB, THUMBS_UP), (ADA, PARTY), (BOB, PARTY), (ADA, THUMBS_UP)] {
        react(&service, Method::DELETE, &message, user_id, emoji, StatusCode::NO_CONTENT).await;
    }
    assert_eq!((seen().await.get("reactions"), seen().await["version"].clone()), (None, json!(7)));
}

#[sqlx::test(migrations = false)]
async fn only_emoji_are_reactions(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "hello").await;
    for text in ["a", "%2B1", ":tada:", "%3Cb%3E", &format!("{PARTY}{PARTY}"), "%00", "%FF", &"x".repeat(11)] {
        for method in [Method::PUT, Method::DELETE] {
            react(&service, method, &message, BOB, text, StatusCode::BAD_REQUEST).await;
        }
    }
}

#[sqlx::test(migrations = false)]
async fn a_message_has_a_limited_number_of_reactions(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "hello").await;
    service
        .execute(
            "update messages set reactions = (
                 select jsonb_agg(jsonb_build_object('emoji', chr(127815 + number), 'user_ids', jsonb_build_array(1)))
                 from generate_series(0, 19) as number
             )",
        )
        .await;
    react(&service, Method::PUT, &message, BOB, PARTY, StatusCode::CONFLICT).await;
    react(&service, Method::PUT, &message, BOB, "%F0%9F%8D%87", StatusCode::NO_CONTENT).await;
    service
        .execute(
            "update messages set reactions = jsonb_set(reactions, '{0,user_ids}', (
                 select jsonb_agg(number) from generate_series(101, 200) as number
             ))",
        )
        .await;
    let problem = service
        .call(Method::PUT, &path(&message, "/reactions/%F0%9F%8D%87"), BOB, Value::Null, StatusCode::CONFLICT)
        .await
        .1;
    assert_eq!(problem["type"], "/api/docs/problems#too-many-reactions");
}

#[sqlx::test(migrations = false)]
async fn only_members_react_and_pin(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let private = service.channel(ADA, json!({ "kind": "private", "name": "plans" })).await;
    for (channel, expected) in [(&open, StatusCode::FORBIDDEN), (&private, StatusCode::NOT_FOUND)] {
        let message = service.post_to(channel, ADA, "x").await;
        for method in [Method::PUT, Method::DELETE] {
            react(&service, method.clone(), &message, CAROL, PARTY, expected).await;
            pin(&service, method, &message, CAROL, expected).await;
        }
    }
    pins(&service, &open, CAROL).await;
    service.at_channel(Method::GET, (&private, "/pins"), CAROL, Value::Null, StatusCode::NOT_FOUND).await;
    assert_eq!(service.row::<i64>("select sum(version)::bigint from messages").await, 2, "nothing has changed");
}

#[sqlx::test(migrations = false)]
async fn pinned_messages_are_listed_last_first(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let team = service.channel(ADA, json!({ "kind": "public", "name": "team" })).await;
    service.add(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
    let (one, two) = (service.post_to(&team, ADA, "one").await, service.post_to(&team, ADA, "two").await);
    for message in [&two, &one, &two] {
        pin(&service, Method::PUT, message, BOB, StatusCode::NO_CONTENT).await;
    }
    let pinned = pins(&service, &team, CAROL).await;
    let sources: Vec<_> = pinned.iter().map(|message| message["source"].as_str().expect("a source")).collect();
    assert_eq!(sources, ["one", "two"]);
    assert_eq!((&pinned[0]["nickname"], pinned[0]["pinned_at"].is_string()), (&json!("ada"), true));
    assert_eq!((&pinned[1]["version"], &pinned[1]["updated_at"]), (&json!(2), &two["updated_at"]));
    for _ in 0..2 {
        pin(&service, Method::DELETE, &one, ADA, StatusCode::NO_CONTENT).await;
    }
    assert_eq!(pins(&service, &team, ADA).await, [pinned[1].clone()]);

    service
        .execute(
            "insert into messages (user_id, channel_id, source, html, pinned_at)
             select 1, id, 'x', 'x', now() from channels, generate_series(1, 49) where name = 'team'",
        )
        .await;
    let problem = pin(&service, Method::PUT, &one, ADA, StatusCode::CONFLICT).await;
    assert_eq!(problem["type"], "/api/docs/problems#too-many-pins");
    pin(&service, Method::PUT, &two, ADA, StatusCode::NO_CONTENT).await;
    pin(&service, Method::DELETE, &two, ADA, StatusCode::NO_CONTENT).await;
    pin(&service, Method::PUT, &one, ADA, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn a_deleted_message_has_neither_reactions_nor_a_pin(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "regret").await;
    react(&service, Method::PUT, &message, BOB, PARTY, StatusCode::NO_CONTENT).await;
    pin(&service, Method::PUT, &message, BOB, StatusCode::NO_CONTENT).await;
    service.call(Method::DELETE, &path(&message, ""), ADA, Value::Null, StatusCode::NO_CONTENT).await;
    let deleted = service.get(&path(&message, ""), StatusCode::OK).await;
    assert_eq!((deleted.get("reactions"), deleted.get("pinned_at")), (None, None));
    assert!(pins(&service, &json!({ "id": 1 }), ADA).await.is_empty());
    react(&service, Method::PUT, &message, BOB, PARTY, StatusCode::NOT_FOUND).await;
    pin(&service, Method::PUT, &message, BOB, StatusCode::NOT_FOUND).await;
    react(&service, Method::DELETE, &message, BOB, PARTY, StatusCode::NO_CONTENT).await;
    pin(&service, Method::DELETE, &message, BOB, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn in_version_1_reactions_and_pins_are_no_change(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "hello").await;
    react(&service, Method::PUT, &message, BOB, PARTY, StatusCode::NO_CONTENT).await;
    pin(&service, Method::PUT, &message, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get("/api/messages", StatusCode::OK).await["messages"], json!([message]));
    service.put(ADA, &message["id"], "edited", StatusCode::NO_CONTENT).await;
    let published = published(SERVICE, &service.pool, events::map, 5).await;
    let versions: Vec<_> = published
        .into_iter()
        .skip(1)
        .map(|(_, event)| {
            let event: Event<MessagesEvent> = serde_json::from_value(event).expect("an event of the schema");
            let MessagesEvent::MessageChanged(message) = event.union else { panic!("not a message") };
            (event.version, message.annotated_version, message.reactions.len(), message.pinned_at.is_some())
        })
        .collect();
    let expected = [(1, None, 0, false), (2, Some(2), 1, false), (3, Some(3), 1, true), (4, Some(3), 1, true)];
    assert_eq!(versions, expected);
}

#[sqlx::test(migrations = false)]
async fn reactions_and_replies_count_the_bytes_that_every_client_receives(pool: PgPool) {
    let service = Service::limited(pool, 40_000).await;
    let message = service.post(ADA, &"long ".repeat(1_600)).await;
    let mut statuses = Vec::new();
    for emoji in [THUMBS_UP, PARTY, "%F0%9F%8D%87"] {
        let call = service.request(Method::PUT, &path(&message, &format!("/reactions/{emoji}")));
        statuses.push(call.bearer(&service.token(BOB)).send().await.status);
    }
    assert_eq!(statuses, [StatusCode::NO_CONTENT, StatusCode::NO_CONTENT, StatusCode::TOO_MANY_REQUESTS]);
    let reply = json!({ "source": "x", "thread_id": message["id"] });
    service.call(Method::POST, "/api/v2/channels/1/messages", BOB, reply, StatusCode::TOO_MANY_REQUESTS).await;
    service.call(Method::POST, "/api/v2/channels/1/messages", BOB, json!({ "source": "x" }), StatusCode::CREATED).await;
}
