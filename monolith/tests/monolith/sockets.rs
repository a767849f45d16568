//! Websockets of a monolith that runs alone: events reach them in the process.

use axum::{Router, http::StatusCode};
use flack_common::process::{BoundedListener, CONNECTIONS_MAX};
use flack_testing::WAIT_MAX;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::support::{Monolith, PASSWORD};

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(flack: &Monolith) -> Self {
        Self::open_router(&flack.router).await
    }

    pub async fn open_router(router: &Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = router.clone();
        let listener = BoundedListener::new(listener, CONNECTIONS_MAX);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.expect("a socket");
        Self(socket)
    }

    pub async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("an open socket");
    }

    /// Reads until the server closes. Returns the frames, and the code of the close.
    pub async fn read_to_close(mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        timeout(WAIT_MAX, async {
            loop {
                match self.0.next().await.expect("a close frame").expect("a frame") {
                    Message::Text(text) => frames.push(serde_json::from_str(&text).expect("JSON")),
                    Message::Close(frame) => return frame.expect("a reason").code.into(),
                    _ => {}
                }
            }
        })
        .await
        .map(|code| (frames, code))
        .expect("it is closed in time")
    }

    /// Returns the next wanted frame and skips others.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.read_until(wanted).await.pop().expect("the wanted frame")
    }

    /// Returns all frames up to the wanted one.
    pub async fn read_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        timeout(WAIT_MAX, async {
            while !frames.last().is_some_and(&wanted) {
                let frame = self.0.next().await.expect("an open socket").expect("a frame");
                if let Message::Text(text) = frame {
                    frames.push(serde_json::from_str(&text).expect("JSON"));
                }
            }
        })
        .await
        .expect("the frame in time");
        frames
    }
}

#[sqlx::test(migrations = false)]
async fn a_message_by_http_or_socket_reaches_the_other_user_once(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    flack.register("bob").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let (mut of_ada, mut of_bob) = (Socket::open(&flack).await, Socket::open(&flack).await);
    of_ada.send(json!({ "type": "hello", "token": token })).await;
    of_bob.send(json!({ "type": "hello" })).await;
    let welcome = of_ada.wait_for(|frame| frame["type"] == "welcome").await;
    assert_eq!(welcome["user_id"].as_i64(), Some(ada));
    of_bob.wait_for(|frame| frame["type"] == "welcome").await;

    let is_message = |frame: &Value| frame["type"] == "updated_model" && frame["class"] == "Message";
    let by_http = flack.post_message(&token, "by http").await;
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    of_ada.send(json!({ "type": "post_message", "id": id, "channel": "general", "source": "by socket" })).await;
    let posted = of_ada.wait_for(|frame| frame["type"] == "posted").await;
    let by_socket = posted["message_id"].as_i64().expect("an id");
    for wanted in [by_http, by_socket] {
        let frame = of_bob.wait_for(is_message).await;
        assert_eq!(frame["model"]["id"].as_i64(), Some(wanted), "{frame}");
    }
}

/// Registers a user and connects with version 2. Returns id, token and socket.
async fn connect(flack: &Monolith, nickname: &str) -> (i64, String, Socket) {
    let id = flack.register(nickname).await;
    let token = flack.sign_in(nickname, PASSWORD).await;
    let socket = connect_again(flack, &token).await;
    (id, token, socket)
}

async fn connect_again(flack: &Monolith, token: &str) -> Socket {
    let mut socket = Socket::open(flack).await;
    socket.send(json!({ "type": "hello", "token": token, "version": 2 })).await;
    socket.wait_for(|frame| frame["type"] == "welcome").await;
    socket
}

#[sqlx::test(migrations = false)]
async fn a_private_channel_reaches_the_sockets_of_its_members_alone(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let (_, ada_token, mut ada) = connect(&flack, "ada").await;
    let (bob_id, bob_token, mut bob) = connect(&flack, "bob").await;
    let (_, _, mut eve) = connect(&flack, "eve").await;
    let create =
        flack.post("/api/v2/channels").bearer(&ada_token).json(&json!({ "kind": "private", "name": "design" }));
    let id = create.expect(StatusCode::CREATED).await.json()["id"].clone();
    let own = ada.wait_for(|frame| frame["class"] == "Member").await;
    assert_eq!(own["model"]["channel_id"], id, "{own}");

    let bob_path = format!("/api/v2/channels/{id}/members/{bob_id}");
    flack.put(&bob_path).bearer(&ada_token).expect(StatusCode::NO_CONTENT).await;
    let invited = bob.wait_for(|frame| frame["class"] == "Member" && frame["model"]["user_id"] == bob_id).await;
    assert_eq!(invited["model"]["channel_id"], id, "{invited}");
    // The memberships of this connection come from the list.
    let mut bob_again = connect_again(&flack, &bob_token).await;
    let is_message = |frame: &Value| frame["class"] == "Message";
    let post = "0190163d-8694-739b-aea5-966c26f8ad92";
    ada.send(json!({ "type": "post_message", "id": post, "channel_id": id, "source": "secret" })).await;
    ada.wait_for(|frame| frame["type"] == "posted").await;
    for socket in [&mut bob, &mut bob_again] {
        let message = socket.wait_for(is_message).await;
        assert_eq!((&message["model"]["channel_id"], &message["model"]["source"]), (&id, &json!("secret")));
    }

    flack.delete(&bob_path).bearer(&bob_token).expect(StatusCode::NO_CONTENT).await;
    let post = flack.post(&format!("/api/v2/channels/{id}/messages")).bearer(&ada_token);
    post.json(&json!({ "source": "after bob has left" })).expect(StatusCode::CREATED).await;
    flack.post_message(&ada_token, "for everyone").await;
    let is_last = |frame: &Value| frame["model"]["source"] == "for everyone";
    for socket in [&mut bob, &mut bob_again] {
        let frames = socket.read_until(is_last).await;
        assert!(!frames.iter().any(|frame| frame["model"]["source"] == "after bob has left"), "{frames:?}");
        assert!(frames.iter().any(|frame| frame["model"]["left_at"].is_string()), "{frames:?}");
    }
    let frames = eve.read_until(is_last).await;
    let is_of_channel = |frame: &Value| frame["class"] == "Channel" || frame["model"]["channel_id"] == id;
    assert!(!frames.iter().any(is_of_channel), "{frames:?}");
}
