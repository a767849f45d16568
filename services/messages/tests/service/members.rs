//! Members of channels, read positions and unread counts.

use crate::support::{ADA, BOB, CAROL, Service};
use flack_api::events::{Event, MessagesEvent};
use flack_messages::{SERVICE, events};
use flack_testing::published;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn channel_of(service: &Service, kind: &str) -> Value {
    service.know_users().await;
    service.channel(ADA, json!({ "kind": kind, "name": "team" })).await
}

async fn members(service: &Service, channel: &Value, user_id: i64) -> Vec<i64> {
    let list = service.at_channel(Method::GET, (channel, "/members"), user_id, Value::Null, StatusCode::OK).await;
    let members = list["members"].as_array().expect("a list");
    members.iter().map(|member| member["user_id"].as_i64().expect("an id")).collect()
}

async fn read(service: &Service, channel: &Value, user_id: i64, message: &Value, expected: StatusCode) {
    let body = json!({ "message_id": message["id"] });
    service.at_channel(Method::PUT, (channel, "/read"), user_id, body, expected).await;
}

async fn unread(service: &Service, channel: &Value, user_id: i64) -> i64 {
    service.seen(channel, user_id).await["member"]["unread"].as_i64().expect("a number")
}

#[sqlx::test(migrations = false)]
async fn users_join_public_channels_and_are_invited_to_private_ones(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "private").await;
    service.add(&team, BOB, BOB, StatusCode::NOT_FOUND).await;
    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    service.add(&team, BOB, CAROL, StatusCode::NO_CONTENT).await;
    service.add(&team, ADA, 4711, StatusCode::NOT_FOUND).await;
    assert_eq!(members(&service, &team, CAROL).await, [ADA, BOB, CAROL]);

    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    service.add(&open, BOB, CAROL, StatusCode::FORBIDDEN).await;
    service.add(&open, BOB, BOB, StatusCode::NO_CONTENT).await;
    service.add(&open, BOB, CAROL, StatusCode::NO_CONTENT).await;
    let list = service.at_channel(Method::GET, (&open, "/members"), ADA, Value::Null, StatusCode::OK).await;
    assert_eq!(list["everyone"], false);
    let bob = &list["members"][1];
    assert_eq!((&bob["user_id"], &bob["nickname"], &bob["version"]), (&json!(BOB), &json!("bob"), &json!(1)));
    assert_eq!((bob.get("last_read_message_id"), bob.get("left_at")), (None, None), "only the user's own");
}

#[sqlx::test(migrations = false)]
async fn a_user_who_leaves_keeps_a_row_whose_version_grows(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "private").await;
    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    service.leave(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(members(&service, &team, ADA).await, [ADA]);
    let left = async |query: &str| {
        let path = format!("/api/v2/channels{query}");
        service.call(Method::GET, &path, BOB, Value::Null, StatusCode::OK).await.1
    };
    let list = left("?include=left").await;
    assert_eq!(list["left"], json!([{ "channel_id": team["id"], "version": 2 }]));
    assert_eq!(list["channels"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(left("").await.get("left"), None);

    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(service.seen(&team, BOB).await["member"]["version"], 3);
    assert_eq!(left("?include=left").await.get("left"), None);
}

#[sqlx::test(migrations = false)]
async fn a_member_of_a_private_channel_removes_another_one_and_nobody_does_elsewhere(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "private").await;
    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    service.leave(&team, CAROL, BOB, StatusCode::NOT_FOUND).await;
    service.leave(&team, BOB, CAROL, StatusCode::NO_CONTENT).await;
    service.leave(&team, BOB, ADA, StatusCode::NO_CONTENT).await;
    assert_eq!(members(&service, &team, BOB).await, [BOB]);
    service.at_channel(Method::GET, (&team, ""), ADA, Value::Null, StatusCode::NOT_FOUND).await;

    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    service.add(&open, BOB, BOB, StatusCode::NO_CONTENT).await;
    let direct = service.channel(ADA, json!({ "kind": "direct", "user_ids": [BOB] })).await;
    for channel in [&open, &direct, &json!({ "id": 1 })] {
        service.leave(channel, ADA, BOB, StatusCode::FORBIDDEN).await;
    }
    assert_eq!(members(&service, &open, BOB).await, [ADA, BOB]);
}

#[sqlx::test(migrations = false)]
async fn a_read_position_is_a_message_of_the_channel(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "public").await;
    let elsewhere = service.post(ADA, "elsewhere").await;
    for message in [&elsewhere, &json!({ "id": i64::MAX })] {
        read(&service, &team, ADA, message, StatusCode::NOT_FOUND).await;
    }
    assert_eq!(service.seen(&team, ADA).await["member"]["last_read_message_id"], 0);
}

#[sqlx::test(migrations = false)]
async fn a_read_position_never_moves_back(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "public").await;
    let (first, second) = (service.post_to(&team, ADA, "one").await, service.post_to(&team, ADA, "two").await);
    read(&service, &team, BOB, &first, StatusCode::FORBIDDEN).await;
    for message in [&first, &second, &first] {
        read(&service, &team, ADA, message, StatusCode::NO_CONTENT).await;
    }
    let member = service.seen(&team, ADA).await["member"].clone();
    assert_eq!((&member["last_read_message_id"], &member["version"]), (&second["id"], &json!(3)));

    // Everybody has a position in `general`, without joining.
    let (general, message) = (json!({ "id": 1 }), service.post(ADA, "to all").await);
    assert_eq!(unread(&service, &general, BOB).await, 1);
    read(&service, &general, BOB, &message, StatusCode::NO_CONTENT).await;
    let member = service.seen(&general, BOB).await["member"].clone();
    assert_eq!((&member["unread"], &member["version"]), (&json!(0), &json!(1)));
}

#[sqlx::test(migrations = false)]
async fn messages_of_others_after_the_last_read_one_are_unread(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "public").await;
    let before = service.post_to(&team, ADA, "before bob").await;
    service.add(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
    assert_eq!(service.seen(&team, BOB).await["member"]["last_read_message_id"], before["id"]);
    let mut messages = Vec::new();
    for source in ["one", "two", "three"] {
        messages.push(service.post_to(&team, ADA, source).await);
        service.post(ADA, "elsewhere").await;
    }
    service.post_to(&team, BOB, "own").await;
    assert_eq!((unread(&service, &team, BOB).await, unread(&service, &team, ADA).await), (3, 1));
    let path = format!("/api/v2/messages/{}", messages[1]["id"]);
    service.call(Method::DELETE, &path, ADA, Value::Null, StatusCode::NO_CONTENT).await;
    assert_eq!(unread(&service, &team, BOB).await, 2);
    read(&service, &team, BOB, &messages[0], StatusCode::NO_CONTENT).await;
    assert_eq!(unread(&service, &team, BOB).await, 1);
    service
        .execute(
            "insert into messages (user_id, channel_id, source, html)
             select 1, id, 'x', 'x' from channels, generate_series(1, 150) where name = 'team'",
        )
        .await;
    assert_eq!(unread(&service, &team, BOB).await, 100, "or more");
}

#[sqlx::test(migrations = false)]
async fn a_channel_has_a_limited_number_of_members(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "public").await;
    service
        .execute(
            "insert into channel_members (channel_id, user_id)
             select id, number from channels, generate_series(10, 1008) as number where name = 'team'",
        )
        .await;
    let problem = service.add(&team, BOB, BOB, StatusCode::CONFLICT).await;
    assert_eq!(problem["type"], "/api/docs/problems#too-many-channels");
    service.execute("update channel_members set left_at = now() where user_id = 1000").await;
    service.add(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn changes_of_channels_and_members_are_published_with_versions(pool: PgPool) {
    let service = Service::start(pool).await;
    let team = channel_of(&service, "private").await;
    service.add(&team, ADA, BOB, StatusCode::NO_CONTENT).await;
    service.leave(&team, BOB, BOB, StatusCode::NO_CONTENT).await;
    service
        .at_channel(Method::PATCH, (&team, ""), ADA, json!({ "topic": "t", "archived": true }), StatusCode::OK)
        .await;
    let published = published(SERVICE, &service.pool, events::map, 6).await;
    let mut lines = Vec::new();
    for (subject, event) in published.into_iter().skip(1) {
        let event: Event<MessagesEvent> = serde_json::from_value(event).expect("an event of the schema");
        lines.push(match event.union {
            MessagesEvent::ChannelChanged(channel) => format!(
                "{subject} {} {} {} {}",
                event.version,
                channel.kind.expect("a kind"),
                channel.topic.expect("a topic"),
                channel.archived_at.is_some()
            ),
            MessagesEvent::ChannelMemberChanged(member) => {
                format!("{subject} {} {} {}", event.version, member.user_id, member.left_at.is_some())
            }
            MessagesEvent::MessageChanged(_) => panic!("no message was posted"),
        });
    }
    assert_eq!(
        lines,
        [
            "flack.messages.channel_changed.2 1 private  false",
            "flack.messages.channel_member_changed.2:1 1 1 false",
            "flack.messages.channel_member_changed.2:2 1 2 false",
            "flack.messages.channel_member_changed.2:2 2 2 true",
            "flack.messages.channel_changed.2 2 private t true",
        ]
    );
}
