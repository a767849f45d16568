//! What clients ask for is done in their name.

use std::time::{Duration, Instant};

use flack_websocket::Limits;
use serde_json::json;
use uuid::Uuid;

use crate::{nats::Nats, server::Server};

#[tokio::test]
async fn a_message_is_posted_once_however_often_its_frame_is_sent() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.user(7).await;
    let id = Uuid::new_v4();
    for _ in 0..2 {
        client.send(json!({ "type": "post_message", "id": id, "channel": "general", "source": "hi" })).await;
        assert_eq!(client.next().await, json!({ "type": "posted", "id": id, "message_id": 1 }));
    }
    assert_eq!(*server.peers.said.lock().unwrap(), [(id, (7, "hi".to_owned()))].into());
}

#[tokio::test]
async fn ping_user_keeps_the_user_online() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.user(7).await;
    client.send(json!({ "type": "ping_user" })).await;
    // The next answer shows that the one before was handled: their order is kept.
    client
        .send(json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" }))
        .await;
    assert_eq!(client.next().await["type"], "posted");
    assert_eq!(*server.peers.online.lock().unwrap(), [7]);
}

#[tokio::test]
async fn what_cannot_be_done_is_answered_by_a_problem_with_the_id() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.user(7).await;
    let id = Uuid::new_v4();
    let post = |channel: &str, source: &str| json!({ "type": "post_message", "id": id, "channel": channel, "source": source });
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
    *server.peers.away.lock().unwrap() = true;
    client.send(post("general", "hi")).await;
    assert_eq!(client.next().await["status"], 503);
    assert!(server.peers.said.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_only_listens_cannot_post() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    client
        .send(json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" }))
        .await;
    assert_eq!(client.next().await["status"], 401);
    client.send(json!({ "type": "typing", "channel": "general" })).await;
    assert_eq!(client.next().await["status"], 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_the_connection_listens_until_a_new_hello() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.user(7).await;
    server.peers.revoke("token-7");
    let post = json!({ "type": "post_message", "id": Uuid::new_v4(), "channel": "general", "source": "hi" });
    client.send(post.clone()).await;
    assert_eq!(client.next().await["status"], 401);
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    nats.tell_message(1, "for all").await;
    assert_eq!(client.next_source().await, "for all");

    let welcome = client.hello(json!({ "token": "token-8" })).await;
    assert_eq!((&welcome["user_id"], &welcome["resumed"]), (&json!(8), &json!(true)));
    client.send(post).await;
    assert_eq!(client.next().await["type"], "posted");
}

#[tokio::test]
async fn a_silent_connection_hears_at_once_that_its_token_was_revoked_and_the_others_hear_nothing() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let [mut first, mut second, mut other] =
        [server.user(7).await, server.user(7).await, server.user(8).await];
    let revoked = Instant::now();
    server.peers.revoke_and_tell(7);
    for client in [&mut first, &mut second] {
        assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    }
    // The promise is 250 ms; a busy machine is given more. The next look without being told is after a minute.
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    nats.tell_message(1, "for all").await;
    assert_eq!(other.next_source().await, "for all");
}

#[tokio::test]
async fn when_too_many_revocations_come_at_once_every_token_is_looked_at() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.user(7).await;
    server.peers.revoke_and_tell(7);
    for user_id in 100..200 {
        server.peers.revoke_and_tell(user_id);
    }
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
}

#[tokio::test]
async fn a_silent_connection_hears_that_its_token_has_ended() {
    let nats = Nats::start().await;
    let limits = Limits { token_check_interval: Duration::from_millis(20), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.user(7).await;
    server.peers.revoke("token-7");
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
}

#[tokio::test]
async fn typing_is_told_to_the_others_at_every_instance_and_not_too_often() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut typist = one.user(7).await;
    let mut reader = other.user(8).await;
    // The signals are not stored: until the reader's instance listens, they are repeated by another who types.
    let mut prompter = one.user(9).await;
    let first = loop {
        prompter.send(json!({ "type": "typing", "channel": "general" })).await;
        if let Ok(frame) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await {
            break frame;
        }
    };
    assert_eq!(first, json!({ "type": "typing", "channel": "general", "user_id": 9 }));
    typist.send(json!({ "type": "typing", "channel": "general" })).await;
    typist.send(json!({ "type": "typing", "channel": "general" })).await;
    typist.send(json!({ "type": "typing", "channel": "secret" })).await;
    // What the prompter types may still be on its way; one's own typing one is not told.
    loop {
        let frame = typist.next().await;
        if frame["type"] == "problem" {
            assert_eq!(frame["status"], 404);
            break;
        }
        assert_eq!(frame["user_id"], 9);
    }
    nats.tell_message(1, "done").await;
    let mut typed = 0;
    loop {
        let frame = reader.next().await;
        match frame["user_id"].as_i64() {
            Some(7) => typed += 1,
            Some(9) => {}
            // Signals and events come by different ways: the one typing frame may also come last.
            _ if typed == 1 => break,
            _ => nats.tell_message(1, "done").await,
        }
    }
    assert_eq!(typed, 1);
}
