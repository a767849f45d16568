//! Clients of version 2 receive what their users may see at that moment: live, after a resume from the ring buffer, and
//! after a backfill from the inbox. User 7 is a member of channel 4, user 8 is a stranger.

use std::time::Duration;

use flack_common::database;
use flack_testing::Nats;
use flack_websocket::{Limits, MIGRATIONS, Retention};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    client::Client,
    model::{Member, member, message, publish_channel, publish_in, publish_message, user},
    server::Server,
};

const CHANNEL: i64 = 4;
const MEMBER: i64 = 7;
const STRANGER: i64 = 8;

async fn start() -> (Nats, Server) {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    server.peers.set_member(CHANNEL, MEMBER, 1, true);
    (nats, server)
}

/// Publishes a message of the channel, and one of `general` after it.
async fn publish_both(nats: &Nats) {
    publish_in(nats, CHANNEL, 100, "secret").await;
    publish_message(nats, 101, "for everyone").await;
}

/// Returns the sources that a client receives, up to the message of `general`.
async fn sources(client: &mut Client) -> Vec<String> {
    let mut sources = Vec::new();
    loop {
        let source = client.next_source().await;
        if source == "for everyone" {
            return sources;
        }
        sources.push(source);
    }
}

#[tokio::test]
async fn the_messages_of_a_channel_reach_its_members_alone_and_no_client_of_version_1() {
    let (nats, server) = start().await;
    let mut member = server.user_of_version_2(MEMBER).await;
    let mut anonymous = server.connect().await;
    anonymous.hello(json!({ "version": 2 })).await;
    let mut others =
        [server.user_of_version_2(STRANGER).await, anonymous, server.user(MEMBER).await, server.anonymous().await];
    publish_both(&nats).await;
    for client in &mut others {
        assert!(sources(client).await.is_empty());
    }
    let model = member.next_model("Message").await;
    assert_eq!((&model["source"], &model["channel_id"]), (&json!("secret"), &json!(CHANNEL)));
    let model = member.next_model("Message").await;
    assert_eq!((&model["channel_id"], &model["created_at"]), (&json!(1), &json!("1970-01-01T00:00:01Z")));
}

#[tokio::test]
async fn a_resumed_member_receives_what_was_missed_and_a_resumed_stranger_does_not() {
    let (nats, server) = start().await;
    let [mut member, mut stranger] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(STRANGER).await];
    let mut old = server.anonymous().await;
    publish_message(&nats, 1, "before").await;
    for client in [&mut member, &mut stranger, &mut old] {
        assert_eq!(client.next_source().await, "before");
    }
    publish_both(&nats).await;
    assert_eq!(sources(&mut member.resume_as(MEMBER, &server).await).await, ["secret"]);
    let mut stranger = stranger.resume_as(STRANGER, &server).await;
    assert!(sources(&mut stranger).await.is_empty());
    assert!(sources(&mut old.resume_at(&server).await).await.is_empty());
    // The cursor of the stranger is after the message that was not for him.
    publish_both(&nats).await;
    assert!(sources(&mut stranger.resume_as(STRANGER, &server).await).await.is_empty());
}

#[sqlx::test(migrations = false)]
async fn a_backfill_holds_the_messages_of_a_channel_for_its_members_alone(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    let nats = Nats::start().await;
    let retention = Retention { events_max: 4, tail_messages_max: 4, ..Retention::default() };
    let server = Server::with_inbox(&nats, retention, &pool).await;
    server.peers.set_member(CHANNEL, MEMBER, 1, true);
    let [mut member, mut stranger] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(STRANGER).await];
    let mut old = server.anonymous().await;
    publish_message(&nats, 1, "before").await;
    for client in [&mut member, &mut stranger, &mut old] {
        assert_eq!(client.next_source().await, "before");
    }
    let former = member.cursor.clone();
    for id in 10..40 {
        publish_in(&nats, CHANNEL, id, &id.to_string()).await;
    }
    publish_message(&nats, 101, "for everyone").await;
    let expected: Vec<_> = (10..40).map(|id: i64| id.to_string()).collect();
    let mut member = member.resume_as(MEMBER, &server).await;
    assert_eq!(sources(&mut member).await, expected);
    assert!(sources(&mut stranger.resume_as(STRANGER, &server).await).await.is_empty());
    assert!(sources(&mut old.resume_at(&server).await).await.is_empty());
    // He leaves, and then asks for the same messages again.
    server.peers.set_member(CHANNEL, MEMBER, 2, false);
    member.cursor = former;
    assert!(sources(&mut member.resume_as(MEMBER, &server).await).await.is_empty());
}

#[tokio::test]
async fn who_leaves_receives_nothing_from_then_on_and_who_is_invited_everything() {
    let (nats, server) = start().await;
    let [mut leaving, mut invited] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(STRANGER).await];
    publish_both(&nats).await;
    assert_eq!((sources(&mut leaving).await.len(), sources(&mut invited).await.len()), (1, 0));
    let before = leaving.cursor.clone();
    publish_in(&nats, CHANNEL, 102, "the last one").await;
    assert_eq!(leaving.next_source().await, "the last one");

    member(CHANNEL, MEMBER, 2).left().publish(&nats).await;
    member(CHANNEL, STRANGER, 1).publish(&nats).await;
    let model = leaving.next_model("Member").await;
    assert_eq!((&model["user_id"], &model["left_at"]), (&json!(MEMBER), &json!("2026-11-21T12:00:00Z")));
    // It depends on the moment of delivery whether he also learns who has left before.
    while invited.next_model("Member").await["user_id"] != STRANGER {}
    publish_both(&nats).await;
    assert!(sources(&mut leaving).await.is_empty());
    assert_eq!(sources(&mut invited).await, ["secret"]);

    // The list is still the former one, as that of a replica which is behind: the event counts.
    leaving.cursor = before;
    let mut leaving = leaving.resume_as(MEMBER, &server).await;
    let model = leaving.next_model("Member").await;
    assert_eq!(model["user_id"], MEMBER, "nothing of the channel arrives, also not what came before he left");
    assert!(sources(&mut leaving).await.is_empty());
}

#[tokio::test]
async fn a_membership_that_began_before_the_instance_is_taken_from_the_list() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    member(CHANNEL, MEMBER, 1).publish(&nats).await;
    member(CHANNEL, STRANGER, 1).publish(&nats).await;
    server.peers.set_member(CHANNEL, MEMBER, 3, true);
    server.peers.set_member(CHANNEL, STRANGER, 2, false);
    let [mut present, mut left] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(STRANGER).await];
    publish_both(&nats).await;
    assert_eq!(sources(&mut present).await, ["secret"]);
    assert!(sources(&mut left).await.is_empty());
}

#[tokio::test]
async fn channels_and_members_reach_who_may_see_them() {
    let (nats, server) = start().await;
    server.peers.set_member(CHANNEL, 9, 1, true);
    let [mut member_7, mut member_9] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(9).await];
    let mut stranger = server.user_of_version_2(STRANGER).await;
    let mut anonymous = server.connect().await;
    anonymous.hello(json!({ "version": 2 })).await;
    let mut old = server.user(MEMBER).await;

    publish_channel(&nats, 5, "public").await;
    publish_channel(&nats, CHANNEL, "private").await;
    member(CHANNEL, MEMBER, 2).publish(&nats).await;
    // Some time after he joined: he has read a message.
    Member { age_seconds: 3600, ..member(CHANNEL, MEMBER, 3) }.publish(&nats).await;
    nats.publish("messages", "message_changed", message(1, "for everyone")).await;

    for client in [&mut member_7, &mut member_9, &mut stranger] {
        let channel = client.next_model("Channel").await;
        assert_eq!((&channel["id"], &channel["kind"]), (&json!(5), &json!("public")));
    }
    for client in [&mut member_7, &mut member_9] {
        assert_eq!(client.next_model("Channel").await["id"], CHANNEL);
    }
    for version in [2, 3] {
        let own = member_7.next_model("Member").await;
        assert_eq!((&own["version"], &own["last_read_message_id"]), (&json!(version), &json!(3)));
    }
    let of_another = member_9.next_model("Member").await;
    assert_eq!((&of_another["user_id"], &of_another["version"]), (&json!(MEMBER), &json!(2)));
    assert!(of_another.get("last_read_message_id").is_none(), "the read position is for its user alone");
    for client in [&mut member_7, &mut member_9, &mut stranger, &mut anonymous, &mut old] {
        assert!(sources(client).await.is_empty(), "nothing else was delivered");
    }
}

#[tokio::test]
async fn a_deleted_message_arrives_without_its_source_in_both_versions() {
    let (nats, server) = start().await;
    let (mut old, mut new) = (server.anonymous().await, server.user_of_version_2(MEMBER).await);
    let mut deleted = message(1, "");
    deleted["html"] = json!("");
    deleted["deleted_at"] = json!(5);
    nats.publish("messages", "message_changed", deleted).await;
    let model = old.next_model("Message").await;
    assert_eq!((&model["source"], &model["html"], model.get("deleted_at")), (&json!(""), &json!(""), None));
    let model = new.next_model("Message").await;
    assert_eq!((&model["source"], &model["deleted_at"]), (&json!(""), &json!("1970-01-01T00:00:05Z")));
}

#[tokio::test]
async fn a_reaction_reaches_clients_of_version_2_alone_and_a_reply_every_client() {
    let (nats, server) = start().await;
    let (mut old, mut new) = (server.anonymous().await, server.user_of_version_2(MEMBER).await);
    let mut reply = message(2, "a reply");
    reply["thread_id"] = json!(1);
    let mut first = message(1, "the first");
    for (member, value) in [
        ("reply_count", json!(1)),
        ("last_reply_at", json!(5)),
        ("reactions", json!([{ "emoji": "👍", "user_ids": [7, 8] }])),
        ("pinned_at", json!(6)),
        // `publish` makes events of version 1.
        ("annotated_version", json!(1)),
    ] {
        first[member] = value;
    }
    nats.publish("messages", "message_changed", first).await;
    nats.publish("messages", "message_changed", reply).await;
    let model = old.next_model("Message").await;
    assert_eq!((&model["source"], model.get("thread_id")), (&json!("a reply"), None));
    let model = new.next_model("Message").await;
    assert_eq!(model["reactions"], json!([{ "emoji": "👍", "count": 2, "user_ids": [7, 8] }]));
    assert_eq!((&model["reply_count"], &model["last_reply_at"]), (&json!(1), &json!("1970-01-01T00:00:05Z")));
    assert_eq!((&model["version"], &model["pinned_at"]), (&json!(1), &json!("1970-01-01T00:00:06Z")));
    let model = new.next_model("Message").await;
    assert_eq!((&model["source"], &model["thread_id"]), (&json!("a reply"), &json!(1)));
}

#[tokio::test]
async fn when_the_channels_of_a_user_cannot_be_read_the_connection_is_closed_with_1013() {
    let (nats, server) = start().await;
    *server.peers.are_unavailable.lock().unwrap() = true;
    let mut client = server.connect().await;
    client.send(json!({ "type": "hello", "token": "token-7", "version": 2 })).await;
    assert_eq!(u16::from(client.closed().await.code), 1013);
    // Nobody else needs the list.
    let mut old = server.user(MEMBER).await;
    let mut anonymous = server.connect().await;
    anonymous.hello(json!({ "version": 2 })).await;
    publish_both(&nats).await;
    for client in [&mut old, &mut anonymous] {
        assert!(sources(client).await.is_empty());
    }
}

#[tokio::test]
async fn the_version_of_the_last_hello_counts() {
    let (nats, server) = start().await;
    let mut client = server.user_of_version_2(MEMBER).await;
    publish_both(&nats).await;
    assert_eq!(sources(&mut client).await, ["secret"]);
    client.hello(json!({ "token": "token-7" })).await;
    publish_both(&nats).await;
    assert!(client.next_model("Message").await.get("channel_id").is_none(), "a model of version 1");
    client.hello(json!({ "token": "token-7", "version": 2 })).await;
    publish_both(&nats).await;
    assert_eq!(sources(&mut client).await, ["secret"]);

    client.send(json!({ "type": "hello", "version": 3 })).await;
    assert_eq!(client.next().await["status"], 400);
    let mut other = server.connect().await;
    other.send(json!({ "type": "hello", "version": 3 })).await;
    assert_eq!(u16::from(other.closed().await.code), 1008);
}

#[tokio::test]
async fn connections_of_both_versions_count_as_connections_of_the_user() {
    let nats = Nats::start().await;
    let limits = Limits { connections_per_user_max: 2, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let _held = [server.user(MEMBER).await, server.user_of_version_2(MEMBER).await];
    let mut third = server.connect().await;
    third.send(json!({ "type": "hello", "token": "token-7", "version": 2 })).await;
    assert_eq!(u16::from(third.closed().await.code), 1008);
}

#[tokio::test]
async fn with_a_revoked_token_a_connection_receives_nothing_of_the_channel_any_more() {
    let (nats, server) = start().await;
    let mut client = server.user_of_version_2(MEMBER).await;
    server.peers.revoke_and_report(MEMBER);
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    publish_both(&nats).await;
    assert!(sources(&mut client).await.is_empty());
    nats.publish("users", "user_changed", user(7, "susan")).await;
    assert_eq!(client.next_model("User").await["nickname"], "susan");
}

#[tokio::test]
async fn a_message_is_posted_to_the_channel_that_its_frame_names() {
    let (_nats, server) = start().await;
    let mut client = server.user_of_version_2(MEMBER).await;
    let id = Uuid::new_v4();
    let post = |channel_id: i64| json!({ "type": "post_message", "id": id, "channel_id": channel_id, "source": "hi" });
    client.send(post(CHANNEL)).await;
    assert_eq!(client.next().await, json!({ "type": "posted", "id": id, "message_id": 1 }));
    client.send(post(5)).await;
    let refused = client.next().await;
    assert_eq!((&refused["status"], &refused["id"]), (&json!(404), &json!(id)));
    let mut reply = post(CHANNEL);
    reply["thread_id"] = json!(1);
    client.send(reply).await;
    assert_eq!(client.next().await, json!({ "type": "posted", "id": id, "message_id": 2 }));
    let posted = |thread_id: Option<i64>| (CHANNEL, thread_id, MEMBER, "hi".to_owned());
    assert_eq!(*server.peers.posted_in.lock().unwrap(), [posted(None), posted(Some(1))]);
    // The frame of version 1 has no channel id.
    client.send(json!({ "type": "post_message", "id": id, "channel": "general", "source": "hi" })).await;
    assert_eq!(client.next().await["status"], 400);
}

#[tokio::test]
async fn typing_in_a_channel_reaches_its_members_and_in_general_everybody() {
    let nats = Nats::start().await;
    let limits = Limits { typing_interval: Duration::from_millis(10), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    for user_id in [MEMBER, 9] {
        server.peers.set_member(CHANNEL, user_id, 1, true);
    }
    let [mut typist, mut reader] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(9).await];
    let (mut stranger, mut old) = (server.user_of_version_2(STRANGER).await, server.anonymous().await);
    stranger.send(json!({ "type": "typing", "channel_id": CHANNEL })).await;
    assert_eq!(stranger.next().await["status"], 404);

    // Signals are not stored: they are repeated until the instance has subscribed.
    for (channel_id, receiver) in [(CHANNEL, &mut reader), (1, &mut stranger)] {
        let frame = loop {
            typist.send(json!({ "type": "typing", "channel_id": channel_id })).await;
            if let Ok(frame) = timeout(Duration::from_millis(200), receiver.next()).await {
                break frame;
            }
        };
        assert_eq!(frame, json!({ "type": "typing", "channel_id": channel_id, "user_id": MEMBER }));
    }
    assert_eq!(old.next().await, json!({ "type": "typing", "channel": "general", "user_id": MEMBER }));
}

#[tokio::test]
async fn typing_in_a_thread_names_the_thread_but_not_to_clients_of_version_1() {
    let nats = Nats::start().await;
    let limits = Limits { typing_interval: Duration::from_millis(10), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    for user_id in [MEMBER, 9] {
        server.peers.set_member(CHANNEL, user_id, 1, true);
    }
    let [mut typist, mut reader] = [server.user_of_version_2(MEMBER).await, server.user_of_version_2(9).await];
    let (mut stranger, mut old) = (server.user_of_version_2(STRANGER).await, server.anonymous().await);
    let typing =
        |channel_id: i64, thread_id: i64| json!({ "type": "typing", "channel_id": channel_id, "thread_id": thread_id });
    for invalid in [0, -1] {
        typist.send(typing(CHANNEL, invalid)).await;
        assert_eq!(typist.next().await["status"], 400);
    }
    stranger.send(typing(CHANNEL, 5)).await;
    assert_eq!(stranger.next().await["status"], 404);

    // Signals are not stored: they are repeated until the instance has subscribed.
    for (channel_id, receiver) in [(CHANNEL, &mut reader), (1, &mut stranger)] {
        let frame = loop {
            typist.send(typing(channel_id, 5)).await;
            if let Ok(frame) = timeout(Duration::from_millis(200), receiver.next()).await {
                break frame;
            }
        };
        let mut expected = typing(channel_id, 5);
        expected["user_id"] = json!(MEMBER);
        assert_eq!(frame, expected);
    }
    assert_eq!(old.next().await, json!({ "type": "typing", "channel": "general", "user_id": MEMBER }));
}

#[tokio::test]
async fn a_client_that_receives_nothing_of_many_entries_gets_a_cursor_after_them() {
    let nats = Nats::start().await;
    let limits = Limits { heartbeat_interval: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let (mut old, mut new) = (server.anonymous().await, server.user_of_version_2(STRANGER).await);
    for id in 1..=400 {
        publish_in(&nats, CHANNEL, id, "secret").await;
    }
    for client in [&mut old, &mut new] {
        let welcomed_at = client.cursor.clone();
        assert_eq!(client.next().await["type"], "cursor");
        assert_ne!(client.cursor, welcomed_at);
    }
    publish_message(&nats, 401, "for everyone").await;
    let mut old = old.resume_at(&server).await;
    loop {
        let frame = old.next().await;
        if frame["type"] == "updated_model" {
            assert_eq!(frame["model"]["source"], "for everyone");
            break;
        }
    }
}
