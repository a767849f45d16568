//! A limit ends the connection that reaches it, and no other.

use flack_testing::Nats;
use std::time::Duration;

use flack_websocket::Limits;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{
    model::publish_message,
    server::{Server, start_with_anonymous},
};

#[tokio::test]
async fn a_connection_without_hello_in_time_is_closed() {
    let nats = Nats::start().await;
    let limits = Limits { hello_timeout: Duration::from_millis(30), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let end = server.connect().await.closed().await;
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1008, "no hello in time"));
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_with_1009() {
    let nats = Nats::start().await;
    let limits = Limits { frame_bytes_max: 1000, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.anonymous().await;
    client.send(json!({ "type": "typing", "channel": "x".repeat(2000) })).await;
    assert_eq!(u16::from(client.closed().await.code), 1009);
}

#[tokio::test]
async fn a_binary_frame_ends_the_connection_with_1003() {
    let (_nats, _server, mut client) = start_with_anonymous().await;
    client.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(u16::from(client.closed().await.code), 1003);
}

#[tokio::test]
async fn too_many_frames_a_second_end_the_connection() {
    let nats = Nats::start().await;
    let limits = Limits { frames_per_second_max: 1, frames_burst_max: 5, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.user(7).await;
    for _ in 0..8 {
        // The connection may be closed before the last ones.
        let _ = client.socket.send(Message::text(r#"{"type":"ping_user"}"#)).await;
    }
    let end = client.closed().await;
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1008, "too many frames"));
    assert!(server.peers.online.lock().unwrap().len() <= 5);
}

#[tokio::test]
async fn a_user_with_the_maximum_of_connections_gets_another_when_one_is_closed() {
    let nats = Nats::start().await;
    let limits = Limits { connections_per_user_max: 2, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let (first, _second) = (server.user(7).await, server.user(7).await);
    let _other = server.user(8).await;
    let mut third = server.connect().await;
    third.send(json!({ "type": "hello", "token": "token-7" })).await;
    assert_eq!(third.closed().await.reason.as_str(), "too many connections of this user");

    drop(first);
    let admitted = async {
        loop {
            let mut again = server.connect().await;
            again.send(json!({ "type": "hello", "token": "token-7" })).await;
            if let Some(Ok(Message::Text(_))) = again.socket.next().await {
                return;
            }
        }
    };
    tokio::time::timeout(crate::client::TIMEOUT, admitted).await.expect("the permit is returned");
}

#[tokio::test]
async fn an_instance_with_the_maximum_of_connections_answers_503() {
    let nats = Nats::start().await;
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let _only = server.anonymous().await;
    let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(format!("ws://{}/ws", server.address)).await
    else {
        panic!("the connection was accepted");
    };
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_1008_and_others_get_all_events() {
    let nats = Nats::start().await;
    let limits = Limits {
        entries_behind_max: 4,
        write_stall: Duration::from_millis(20),
        // It reads again only after the last event, which takes a busy machine some seconds.
        close_timeout: Duration::from_mins(1),
        ..Limits::default()
    };
    let server = Server::with_limits(&nats, limits).await;
    let mut slow = server.anonymous().await;
    let mut quick = server.anonymous().await;
    // More than the kernel's buffers hold on both sides.
    let large = "x".repeat(200_000);
    for id in 0..60 {
        publish_message(&nats, id, &large).await;
        assert_eq!(quick.next_source().await.len(), large.len());
    }
    let end = slow.closed().await;
    assert_eq!(u16::from(end.code), 1008);
    assert!(end.reason.starts_with("too slow"), "{}", end.reason);
}

#[tokio::test]
async fn a_client_that_answers_no_pings_is_disconnected_and_one_that_does_stays() {
    let nats = Nats::start().await;
    let limits = Limits {
        heartbeat_interval: Duration::from_millis(20),
        silence_max: Duration::from_millis(200),
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::with_limits(&nats, limits).await;
    // A client answers pings while it waits for a frame. The silent one never does.
    let _silent = server.anonymous().await;
    let mut answering = server.anonymous().await;
    let admitted = async {
        while let Err(Error::Http(_)) = tokio_tungstenite::connect_async(format!("ws://{}/ws", server.address)).await {
            let _ = tokio::time::timeout(Duration::from_millis(20), answering.socket.next()).await;
        }
    };
    tokio::time::timeout(crate::client::TIMEOUT, admitted).await.expect("the silent client's permit is returned");
    publish_message(&nats, 1, "still here").await;
    assert_eq!(answering.next_source().await, "still here");
}
