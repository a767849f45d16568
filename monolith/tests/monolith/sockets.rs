//! Websockets of a monolith that runs alone: events reach them in the process.

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
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = flack.router.clone();
        let listener = BoundedListener::new(listener, CONNECTIONS_MAX);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.expect("a socket");
        Self(socket)
    }

    pub async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("an open socket");
    }

    /// Returns the next wanted frame and skips others.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        timeout(WAIT_MAX, async {
            loop {
                let frame = self.0.next().await.expect("an open socket").expect("a frame");
                let Message::Text(text) = frame else { continue };
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if wanted(&frame) {
                    return frame;
                }
            }
        })
        .await
        .expect("the frame in time")
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
