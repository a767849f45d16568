//! A client that speaks the protocol, and gives up after a bound.

use std::{net::SocketAddr, time::Duration};

use flack_api::frames::ServerFrame;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

/// Longer than anything here takes on a busy machine.
pub const BOUND: Duration = Duration::from_secs(20);

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the last frame that had one.
    pub cursor: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/ws")).await.expect("the door is open");
        Self { socket, cursor: String::new() }
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("it is open");
    }

    /// Sends `hello` with these members; gives the welcome.
    pub async fn hello(&mut self, mut members: Value) -> Value {
        members["type"] = json!("hello");
        self.send(members).await;
        let welcome = self.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        welcome
    }

    /// Comes back with the cursor that `self` has; gives the new connection, and whether it was resumed.
    pub async fn come_back_to(self, address: SocketAddr) -> (Self, bool) {
        let mut client = Self::connect(address).await;
        let welcome = client.hello(json!({ "cursor": self.cursor })).await;
        (client, welcome["resumed"].as_bool().unwrap())
    }

    /// The next frame, which is one of the schema's.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = timeout(BOUND, self.socket.next()).await.expect("a frame in time");
            match message.expect("it is open").expect("it is well") {
                Message::Text(text) => {
                    serde_json::from_str::<ServerFrame>(&text).expect("a frame of the schema");
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if let Some(cursor) = frame["cursor"].as_str() {
                        cursor.clone_into(&mut self.cursor);
                    }
                    return frame;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no frame but {other:?}"),
            }
        }
    }

    /// The source of the next message.
    pub async fn next_source(&mut self) -> String {
        let frame = self.next().await;
        assert_eq!(
            (&frame["type"], &frame["class"]),
            (&json!("updated_model"), &json!("Message")),
            "{frame}"
        );
        frame["model"]["source"].as_str().unwrap().to_owned()
    }

    /// The server closes, whatever comes before that.
    pub async fn closed(&mut self) -> CloseFrame {
        loop {
            match timeout(BOUND, self.socket.next()).await.expect("an end in time") {
                Some(Ok(Message::Close(frame))) => return frame.expect("with a reason"),
                Some(Ok(_)) => {}
                end => panic!("ended without a word: {end:?}"),
            }
        }
    }
}
