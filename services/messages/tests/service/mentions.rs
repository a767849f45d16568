//! Mentions of users and of everyone.

use crate::support::{ADA, BOB, CAROL, Service};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

fn general() -> Value {
    json!({ "id": 1 })
}

async fn counted(service: &Service, channel: &Value, user_id: i64) -> i64 {
    service.seen(channel, user_id).await["member"]["mentions"].as_i64().expect("a number")
}

async fn read(service: &Service, channel: &Value, user_id: i64, message: &Value) {
    let body = json!({ "message_id": message["id"] });
    service.at_channel(Method::PUT, (channel, "/read"), user_id, body, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn known_users_are_mentioned_and_marked(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let message = service.post_to(&general(), ADA, "@Bob and @carol, not @dora or `@ada`").await;
    assert_eq!(message["mentions"], json!({ "user_ids": [BOB, CAROL], "everyone": false }));
    let html = "<p><mark data-user-id=\"2\">@Bob</mark> and <mark data-user-id=\"3\">@carol</mark>, not @dora or \
                <code>@ada</code></p>\n";
    assert_eq!(message["html"], html);
    let everyone = service.post_to(&general(), ADA, "@channel").await;
    assert_eq!(everyone["mentions"], json!({ "user_ids": [], "everyone": true }));
    assert_eq!(service.post_to(&general(), ADA, "nobody@example.org").await.get("mentions"), None);
    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(page["messages"][0]["mentions"], message["mentions"]);
}

#[sqlx::test(migrations = false)]
async fn an_edit_changes_whom_a_message_mentions(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let message = service.post_to(&general(), ADA, "@bob").await;
    let path = format!("/api/v2/messages/{}", message["id"]);
    let edit = json!({ "source": "@carol" });
    let edited = service.call(Method::PATCH, &path, ADA, edit, StatusCode::OK).await.1;
    assert_eq!(edited["mentions"]["user_ids"], json!([CAROL]));
    assert_eq!((counted(&service, &general(), BOB).await, counted(&service, &general(), CAROL).await), (0, 1));
    service.put(ADA, &message["id"], "nobody", StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(&path, StatusCode::OK).await.get("mentions"), None);
    assert_eq!(counted(&service, &general(), CAROL).await, 0);
}

#[sqlx::test(migrations = false)]
async fn only_people_who_can_see_the_channel_are_mentioned(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let private = service.channel(ADA, json!({ "kind": "private", "name": "plans" })).await;
    let message = service.post_to(&private, ADA, "@bob").await;
    assert_eq!((message.get("mentions"), &message["html"]), (None, &json!("<p>@bob</p>\n")));
    service.add(&private, ADA, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(service.post_to(&private, ADA, "@bob").await["mentions"]["user_ids"], json!([BOB]));
    service.leave(&private, BOB, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(service.post_to(&private, ADA, "@bob").await.get("mentions"), None);
    let direct = service.channel(ADA, json!({ "kind": "direct", "user_ids": [BOB] })).await;
    let message = service.post_to(&direct, ADA, "@bob @carol").await;
    assert_eq!(message["mentions"]["user_ids"], json!([BOB]));
    // A user who is no member can be mentioned in a public channel: everybody can read it.
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    assert_eq!(service.post_to(&open, ADA, "@carol").await["mentions"]["user_ids"], json!([CAROL]));
}

#[sqlx::test(migrations = false)]
async fn unread_mentions_are_counted_also_in_replies(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let team = service.channel(ADA, json!({ "kind": "public", "name": "team" })).await;
    service.add(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
    let first = service.post_to(&team, ADA, "@bob").await;
    service.post_to(&team, ADA, "@carol").await;
    service.post_to(&team, ADA, "@channel").await;
    service.post_to(&team, BOB, "@bob and @channel").await;
    let body = json!({ "source": "@bob", "thread_id": first["id"] });
    let reply = service.at_channel(Method::POST, (&team, "/messages"), ADA, body, StatusCode::CREATED).await;
    assert_eq!((counted(&service, &team, BOB).await, counted(&service, &team, ADA).await), (3, 1));
    assert_eq!(service.seen(&team, BOB).await["member"]["unread"], 3);
    read(&service, &team, BOB, &first).await;
    assert_eq!(counted(&service, &team, BOB).await, 2);
    read(&service, &team, BOB, &reply).await;
    assert_eq!(counted(&service, &team, BOB).await, 0);

    let deleted = service.post_to(&team, ADA, "@bob").await;
    let path = format!("/api/v2/messages/{}", deleted["id"]);
    service.call(Method::DELETE, &path, ADA, Value::Null, StatusCode::NO_CONTENT).await;
    assert_eq!(counted(&service, &team, BOB).await, 0);
    service
        .execute(
            r#"insert into messages (user_id, channel_id, source, html, mentions)
             select 1, id, 'x', 'x', '{"users": {"2": "bob"}, "everyone": false}'
             from channels, generate_series(1, 150) where name = 'team'"#,
        )
        .await;
    assert_eq!(counted(&service, &team, BOB).await, 100, "or more");
}
