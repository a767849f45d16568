//! The beginning of a connection.

use flack_testing::Nats;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest as _, http::StatusCode};

use crate::{model::publish_message, server::Server};

#[tokio::test]
async fn hello_with_a_token_signs_the_user_in_and_without_one_the_connection_only_gets_events() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let welcome = server.connect().await.hello(json!({ "token": "token-7" })).await;
    assert_eq!((&welcome["user_id"], &welcome["resumed"]), (&json!(7), &json!(false)));
    let mut anonymous = server.connect().await;
    let welcome = anonymous.hello(json!({})).await;
    assert!(welcome.get("user_id").is_none());
    publish_message(&nats, 1, "for everyone").await;
    assert_eq!(anonymous.next_source().await, "for everyone");
}

#[tokio::test]
async fn hello_with_an_invalid_token_is_answered_and_the_connection_gets_events() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.connect().await;
    let welcome = client.hello(json!({ "token": "forged" })).await;
    assert!(welcome.get("user_id").is_none());
    assert_eq!(client.next().await, json!({ "type": "expired_token" }));
    publish_message(&nats, 1, "for everyone").await;
    assert_eq!(client.next_source().await, "for everyone");
}

#[tokio::test]
async fn another_first_frame_than_hello_ends_the_connection() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "ping_user" })).await;
    let end = client.closed().await;
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1008, "the first frame must be a valid hello"));
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_connect() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let url = format!("ws://{}/ws", server.address);
    for (origin, status) in
        [("http://evil.example".to_owned(), Some(StatusCode::FORBIDDEN)), (format!("http://{}", server.address), None)]
    {
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("Origin", origin.parse().unwrap());
        let refused = match tokio_tungstenite::connect_async(request).await {
            Ok(_) => None,
            Err(Error::Http(response)) => {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                Some(response.status())
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(refused, status, "{origin}");
    }
}

#[tokio::test]
async fn before_nats_was_reached_once_connections_are_closed_with_1013() {
    let mut nats = Nats::start().await;
    nats.kill();
    let limits = flack_websocket::Limits {
        ready_timeout: std::time::Duration::from_millis(50),
        ..flack_websocket::Limits::default()
    };
    let server = Server::with_limits(&nats, limits).await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "hello" })).await;
    assert_eq!(u16::from(client.closed().await.code), 1013);
}
