//! A client of the protocol. It waits for each frame with a timeout.

use std::{net::SocketAddr, time::Duration};

use flack_api::{frames, frames_v2};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::server::Server;

/// Longer than any step of these tests on a busy machine.
pub const TIMEOUT: Duration = Duration::from_mins(1);

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The cursor of the last frame that had one.
    pub cursor: String,
    /// The version of the last `hello`.
    version: u64,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/ws")).await.expect("the upgrade succeeds");
        Self::new(socket)
    }

    pub fn new(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, cursor: String::new(), version: 1 }
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the connection is open");
    }

    /// Sends `hello` with these members, and returns the welcome.
    pub async fn hello(&mut self, mut members: Value) -> Value {
        members["type"] = json!("hello");
        self.version = members["version"].as_u64().unwrap_or(1);
        self.send(members).await;
        let welcome = self.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        welcome
    }

    /// Connects again with the cursor, which is resumed.
    pub async fn resume_at(self, server: &Server) -> Self {
        self.reconnect_to(server, true).await
    }

    /// Connects again with the cursor, which is not resumed.
    pub async fn reload_at(self, server: &Server) -> Self {
        self.reconnect_to(server, false).await
    }

    /// Connects again with version 2 as a user, with the cursor, which is resumed.
    pub async fn resume_as(self, user_id: i64, server: &Server) -> Self {
        let mut client = server.connect().await;
        let hello = json!({ "cursor": self.cursor, "token": format!("token-{user_id}"), "version": 2 });
        let welcome = client.hello(hello).await;
        assert_eq!((&welcome["resumed"], &welcome["user_id"]), (&json!(true), &json!(user_id)));
        client
    }

    async fn reconnect_to(self, server: &Server, is_resumed: bool) -> Self {
        let mut client = server.connect().await;
        let welcome = client.hello(json!({ "cursor": self.cursor })).await;
        assert_eq!(welcome["resumed"], is_resumed);
        client
    }

    /// Returns the next frame, and checks that the schema has it.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = timeout(TIMEOUT, self.socket.next()).await.expect("a frame in time");
            match message.expect("the connection is open").expect("it has no error") {
                Message::Text(text) => {
                    match self.version {
                        1 => drop(serde_json::from_str::<frames::ServerFrame>(&text).expect("a frame of version 1")),
                        _ => drop(serde_json::from_str::<frames_v2::ServerFrame>(&text).expect("a frame of version 2")),
                    }
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if let Some(cursor) = frame["cursor"].as_str() {
                        cursor.clone_into(&mut self.cursor);
                    }
                    return frame;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// Returns the source of the next message.
    pub async fn next_source(&mut self) -> String {
        self.next_model("Message").await["source"].as_str().unwrap().to_owned()
    }

    /// Returns the next model, which has this class.
    pub async fn next_model(&mut self, class: &str) -> Value {
        let frame = self.next().await;
        assert_eq!((&frame["type"], &frame["class"]), (&json!("updated_model"), &json!(class)), "{frame}");
        frame["model"].clone()
    }

    /// Waits until the server closes, and returns the reason.
    pub async fn closed(&mut self) -> CloseFrame {
        loop {
            match timeout(TIMEOUT, self.socket.next()).await.expect("a close frame in time") {
                Some(Ok(Message::Close(frame))) => return frame.expect("a close frame with a reason"),
                Some(Ok(_)) => {}
                end => panic!("ended without a close frame: {end:?}"),
            }
        }
    }
}
