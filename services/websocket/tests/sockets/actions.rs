//! What clients ask for is done in the user's name.

use flack_testing::Nats;
use std::time::{Duration, Instant};

use flack_websocket::Limits;
use serde_json::json;
use uuid::Uuid;

use crate::{
    model::publish_message,
    server::{Server, start_with_anonymous, start_with_user},
};

#[tokio::test]
async fn a_message_is_posted_once_however_often_its_frame_is_sent() {
    let (_nats, server, mut client) = start_with_user(7).await;
    let id = Uuid::new_v4();
    for _ in 0..2 {
        client.send(json!({ "type": "post_message", "id": id, "channel": "general", "source": "hi" })).await;
        assert_eq!(client.next().await, json!({ "type": "posted", "id": id, "message_id": 1 }));
    }
    assert_eq!(*server.peers.posted.lock().unwrap(), [(id, (7, "hi".to_owned()))].into());
}

#[tokio::test]
async fn ping_user_keeps_the_user_online() {
    let (_nats, server, mut client) = start_with_user(7).await;
    client.send(json!({ "type": "ping_user" })).await;
    // Actions run in order: when the second one is answered, the first one is done.
    client.send(json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" })).await;
    assert_eq!(client.next().await["type"], "posted");
    assert_eq!(*server.peers.online.lock().unwrap(), [7]);
}

#[tokio::test]
async fn a_refused_action_is_answered_by_a_problem_with_its_id() {
    let (_nats, server, mut client) = start_with_user(7).await;
    let id = Uuid::new_v4();
    let post = |channel: &str, source: &str| {
        json!({ "type": "post_message", "id": id,
            "channel": channel, "source": source })
    };
    for (frame, status) in [
        (post("secret", "hi"), 404),
        (post("general", "   "), 400),
        (post("general", &"x".repeat(8193)), 400),
        (json!({ "type": "post_message", "id": id }), 400),
    ] {
        client.send(frame).await;
        let answer = client.next().await;
        assert_eq!(
            (&answer["type"], &answer["status"], &answer["id"]),
            (&json!("problem"), &json!(status), &json!(id))
        );
    }
    for unknown in [json!({ "type": "dance" }), json!([]), json!("hello"), json!({ "type": "typing" })] {
        client.send(unknown).await;
        let answer = client.next().await;
        assert_eq!((&answer["type"], &answer["status"]), (&json!("problem"), &json!(400)));
    }
    *server.peers.are_unavailable.lock().unwrap() = true;
    client.send(post("general", "hi")).await;
    assert_eq!(client.next().await["status"], 503);
    assert!(server.peers.posted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_without_a_token_cannot_post_or_type() {
    let (_nats, _server, mut client) = start_with_anonymous().await;
    client.send(json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" })).await;
    assert_eq!(client.next().await["status"], 401);
    client.send(json!({ "type": "typing", "channel": "general" })).await;
    assert_eq!(client.next().await["status"], 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_the_connection_gets_events_until_a_new_hello() {
    let (nats, server, mut client) = start_with_user(7).await;
    server.peers.revoke("token-7");
    let post = json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" });
    client.send(post.clone()).await;
    assert_eq!(client.next().await["status"], 401);
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    publish_message(&nats, 1, "for everyone").await;
    assert_eq!(client.next_source().await, "for everyone");

    let welcome = client.hello(json!({ "token": "token-8" })).await;
    assert_eq!((&welcome["user_id"], &welcome["resumed"]), (&json!(8), &json!(true)));
    client.send(post).await;
    assert_eq!(client.next().await["type"], "posted");
}

#[tokio::test]
async fn an_idle_connection_is_notified_at_once_that_its_token_was_revoked_and_others_are_not() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let [mut first, mut second, mut other] = [server.user(7).await, server.user(7).await, server.user(8).await];
    let revoked = Instant::now();
    server.peers.revoke_and_report(7);
    for client in [&mut first, &mut second] {
        assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    }
    // The target is 250 ms; a busy machine may need more. The next periodic check is after a minute.
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    publish_message(&nats, 1, "for everyone").await;
    assert_eq!(other.next_source().await, "for everyone");
}

#[tokio::test]
async fn when_revocation_reports_are_dropped_every_token_is_checked() {
    let (_nats, server, mut client) = start_with_user(7).await;
    server.peers.revoke_and_report(7);
    for user_id in 100..200 {
        server.peers.revoke_and_report(user_id);
    }
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
}

#[tokio::test]
async fn an_idle_connection_is_notified_that_its_token_has_expired() {
    let nats = Nats::start().await;
    let limits = Limits { token_check_interval: Duration::from_millis(20), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.user(7).await;
    server.peers.revoke("token-7");
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
}

#[tokio::test]
async fn typing_reaches_other_users_at_every_instance_at_a_limited_rate() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut typist = one.user(7).await;
    let mut reader = other.user(8).await;
    // Signals are not stored: another user repeats them until the reader's instance has subscribed.
    let mut repeater = one.user(9).await;
    let first = loop {
        repeater.send(json!({ "type": "typing", "channel": "general" })).await;
        if let Ok(frame) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await {
            break frame;
        }
    };
    assert_eq!(first, json!({ "type": "typing", "channel": "general", "user_id": 9 }));
    typist.send(json!({ "type": "typing", "channel": "general" })).await;
    typist.send(json!({ "type": "typing", "channel": "general" })).await;
    typist.send(json!({ "type": "typing", "channel": "secret" })).await;
    // A signal of the repeater may still arrive. A user's own signal does not.
    loop {
        let frame = typist.next().await;
        if frame["type"] == "problem" {
            assert_eq!(frame["status"], 404);
            break;
        }
        assert_eq!(frame["user_id"], 9);
    }
    publish_message(&nats, 1, "done").await;
    let mut typed = 0;
    loop {
        let frame = reader.next().await;
        match frame["user_id"].as_i64() {
            Some(7) => typed += 1,
            Some(9) => {}
            // Signals and events use different channels: the typing frame may also arrive last.
            _ if typed == 1 => break,
            _ => publish_message(&nats, 1, "done").await,
        }
    }
    assert_eq!(typed, 1);
}
