//! A limit ends the connection that reaches it, and no other.

use std::{io::ErrorKind, time::Duration};

use axum::body::Bytes;
use flack_testing::{Nats, eventually};
use flack_websocket::Limits;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::StatusCode,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

use crate::{
    client::{Client, TIMEOUT},
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
    timeout(TIMEOUT, admitted).await.expect("the permit is returned");
}

#[tokio::test]
async fn an_instance_with_the_maximum_of_connections_answers_503() {
    let nats = Nats::start().await;
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let _only = server.anonymous().await;
    let Err(Error::Http(refused)) = connect_async(format!("ws://{}/ws", server.address)).await else {
        panic!("the connection was accepted");
    };
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
}

/// Connects two clients and publishes so much that the first one, which does not read, is too slow. The second one has
/// read all.
async fn overload(nats: &Nats, server: &Server) -> (Client, Client) {
    let slow = server.anonymous().await;
    let mut quick = server.anonymous().await;
    // More than the kernel's buffers hold on both sides.
    let large = "x".repeat(200_000);
    for id in 0..60 {
        publish_message(nats, id, &large).await;
        assert_eq!(quick.next_source().await.len(), large.len());
    }
    (slow, quick)
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
    let (mut slow, _quick) = overload(&nats, &server).await;
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
        while let Err(Error::Http(_)) = connect_async(format!("ws://{}/ws", server.address)).await {
            let _ = timeout(Duration::from_millis(20), answering.socket.next()).await;
        }
    };
    timeout(TIMEOUT, admitted).await.expect("the silent client's permit is returned");
    publish_message(&nats, 1, "still here").await;
    assert_eq!(answering.next_source().await, "still here");
}

/// What an attacker sends to keep a service busy.
fn floods() -> [(&'static str, Message, Message); 4] {
    let fragment = |kind| Message::Frame(Frame::message(Vec::new(), OpCode::Data(kind), false));
    [
        ("pings", Message::Ping(Bytes::new()), Message::Ping(Bytes::new())),
        ("pongs", Message::Pong(Bytes::new()), Message::Pong(Bytes::new())),
        ("empty fragments", fragment(Data::Text), fragment(Data::Continue)),
        ("fragments of a binary message", fragment(Data::Binary), fragment(Data::Continue)),
    ]
}

#[tokio::test]
async fn twenty_thousand_frames_of_any_kind_end_the_connection_also_before_hello() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    for sends_hello in [true, false] {
        for (what, first, next) in floods() {
            let mut client = if sends_hello { server.anonymous().await } else { server.connect().await };
            let flood = async {
                client.socket.feed(first).await?;
                for _ in 1..20_000 {
                    client.socket.feed(next.clone()).await?;
                }
                client.socket.flush().await
            };
            // The service may close before it has received all.
            let _ = flood.await;
            let end = client.closed().await;
            assert_eq!((u16::from(end.code), end.reason.as_str()), (1008, "too many frames"), "{what}");
        }
    }
}

#[tokio::test]
async fn a_message_in_fragments_arrives_and_each_fragment_counts() {
    let nats = Nats::start().await;
    let limits = Limits { frames_per_second_max: 0, frames_burst_max: 5, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.anonymous().await;
    let (head, tail) = r#"{"type":"typing","channel":"general"}"#.split_at(9);
    let fragment = |text: &str, kind, is_final| {
        Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(kind), is_final))
    };
    client.socket.send(fragment(head, Data::Text, false)).await.unwrap();
    client.socket.send(Message::Ping(Bytes::new())).await.unwrap();
    client.socket.send(fragment(tail, Data::Continue, true)).await.unwrap();
    assert_eq!(client.next().await["status"], 401, "it was understood");
    // Together with `hello`, these were four frames.
    client.send(json!({ "type": "typing", "channel": "general" })).await;
    client.send(json!({ "type": "typing", "channel": "general" })).await;
    assert_eq!(u16::from(client.closed().await.code), 1008);
}

#[tokio::test]
async fn pongs_that_answer_pings_do_not_count() {
    let nats = Nats::start().await;
    let limits = Limits {
        frames_per_second_max: 0,
        frames_burst_max: 2,
        heartbeat_interval: Duration::from_millis(5),
        ..Limits::default()
    };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.anonymous().await;
    for _ in 0..50 {
        let message = timeout(TIMEOUT, client.socket.next()).await.expect("a ping in time").unwrap().unwrap();
        assert!(message.is_ping(), "{message}");
    }
    publish_message(&nats, 1, "still here").await;
    assert_eq!(client.next_source().await, "still here");
}

#[tokio::test]
async fn a_close_frame_of_the_client_is_answered_with_its_code_and_then_tcp_ends() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    for code in [Some(1000), Some(1001), Some(4000), None] {
        for sends_hello in [true, false] {
            let mut client = if sends_hello { server.user(7).await } else { server.connect().await };
            let frame = code.map(|code: u16| CloseFrame { code: code.into(), reason: "bye".into() });
            client.socket.close(frame.clone()).await.unwrap();
            let answer = timeout(TIMEOUT, client.socket.next()).await.expect("an answer in time");
            assert_eq!(answer.expect("the answer is before the end").unwrap(), Message::Close(frame));
            let end = timeout(TIMEOUT, client.socket.next()).await.expect("the end in time");
            assert!(end.is_none(), "{end:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_violates_the_protocol_is_closed_with_1002_or_1007() {
    let (_nats, server, _other) = start_with_anonymous().await;
    let mut reserved = Frame::message("x", OpCode::Data(Data::Text), true);
    reserved.header_mut().rsv1 = true;
    let not_utf8 = Frame::message(vec![0xff], OpCode::Data(Data::Text), true);
    let continued = Frame::message("x", OpCode::Data(Data::Continue), true);
    for (frame, code) in [(reserved, 1002), (continued, 1002), (not_utf8, 1007)] {
        let mut client = server.anonymous().await;
        client.socket.send(Message::Frame(frame)).await.unwrap();
        assert_eq!(u16::from(client.closed().await.code), code);
    }
}

/// Connects as a client of this address, through a balancer.
async fn connect_from(server: &Server, address: &str) -> Result<Client, StatusCode> {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("X-Forwarded-For", address.parse().unwrap());
    match connect_async(request).await {
        Ok((socket, _)) => Ok(Client::new(socket)),
        Err(Error::Http(refused)) => {
            assert_eq!(refused.headers()["content-type"], "application/problem+json");
            assert_eq!(refused.headers()["retry-after"], "1");
            Err(refused.status())
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_address_with_the_maximum_of_connections_gets_429_and_others_connect() {
    let nats = Nats::start().await;
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    for (address, same, other) in
        [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
    {
        let first = connect_from(&server, address).await.ok().unwrap();
        let _second = connect_from(&server, address).await.ok().unwrap();
        assert_eq!(connect_from(&server, same).await.err(), Some(StatusCode::TOO_MANY_REQUESTS));
        connect_from(&server, other).await.ok().unwrap();
        drop(first);
        eventually("the permit is returned", async || connect_from(&server, same).await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_user_signs_in_while_anonymous_connections_take_all_their_places() {
    let nats = Nats::start().await;
    let limits = Limits { anonymous_connections_max: 2, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let _anonymous = [server.anonymous().await, server.anonymous().await];
    let mut third = server.connect().await;
    third.send(json!({ "type": "hello" })).await;
    let end = third.closed().await;
    assert_eq!(u16::from(end.code), 1008);
    assert!(end.reason.starts_with("too many connections without a user"), "{}", end.reason);

    let mut expired = server.connect().await;
    expired.send(json!({ "type": "hello", "token": "forged" })).await;
    assert_eq!(expired.next().await, json!({ "type": "expired_token" }));
    assert_eq!(u16::from(expired.closed().await.code), 1008);

    let mut user = server.user(7).await;
    publish_message(&nats, 1, "for everyone").await;
    assert_eq!(user.next_source().await, "for everyone");
    server.peers.revoke_and_report(7);
    assert_eq!(user.next().await, json!({ "type": "expired_token" }));
    assert_eq!(u16::from(user.closed().await.code), 1008, "it has become an anonymous connection");
}

#[tokio::test]
async fn an_anonymous_connection_that_signs_in_or_ends_leaves_its_place() {
    let nats = Nats::start().await;
    let limits = Limits { anonymous_connections_max: 1, ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut first = server.anonymous().await;
    first.hello(json!({ "token": "token-7" })).await;
    let second = server.anonymous().await;
    drop(second);
    eventually("the place is free", async || {
        let mut third = server.connect().await;
        third.send(json!({ "type": "hello" })).await;
        matches!(third.socket.next().await, Some(Ok(Message::Text(_))))
    })
    .await;
}

#[tokio::test]
async fn the_kernel_keeps_nothing_for_a_client_that_does_not_read() {
    let nats = Nats::start().await;
    let limits = Limits {
        entries_behind_max: 4,
        write_stall: Duration::from_millis(20),
        close_timeout: Duration::from_millis(50),
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::with_limits(&nats, limits).await;
    let (mut slow, _quick) = overload(&nats, &server).await;
    eventually("the slow client's permit is returned", async || {
        connect_async(format!("ws://{}/ws", server.address)).await.is_ok()
    })
    .await;
    // Without a reset, the client would still receive what the service's kernel keeps, and then the end of the stream.
    let end = loop {
        match timeout(TIMEOUT, slow.socket.next()).await.expect("an end in time") {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    let Some(Err(Error::Io(error))) = end else { panic!("no reset: {end:?}") };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_does_not_answer_the_close_frame_is_reset() {
    let nats = Nats::start().await;
    let limits = Limits { close_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client.readable().await.unwrap();
    server.background.stopping().cancel();
    let mut received = Vec::new();
    let end = timeout(TIMEOUT, client.read_to_end(&mut received)).await.expect("an end in time");
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("101 Switching Protocols") && text.contains("restarting"), "{text}");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
