//! A websocket client that speaks the frames of `api/schemas/frames.schema.json` and waits with a bound.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::client::WAIT;

/// The default is filled with zeros before each read: much, for the hundreds of sockets of a verification.
const READ_BUFFER_BYTES: usize = 4096;

/// One connection, greeted.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The `welcome` frame.
    pub welcome: Value,
}

impl Socket {
    /// Connects to the stack at `base` (http://...) without a word.
    pub async fn connect(base: &str) -> anyhow::Result<Self> {
        let url = format!("{}/ws", base.replacen("http", "ws", 1));
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let connecting = connect_async_with_config(&url, Some(config), true);
        let (stream, _) = timeout(WAIT, connecting).await.context("no websocket in time")??;
        Ok(Self { stream, welcome: Value::Null })
    }

    /// Connects and says hello.
    pub async fn greet(base: &str, token: Option<&str>, cursor: Option<&str>) -> anyhow::Result<Self> {
        let mut socket = Self::connect(base).await?;
        let mut hello = json!({ "type": "hello" });
        if let Some(token) = token {
            hello["token"] = json!(token);
        }
        if let Some(cursor) = cursor {
            hello["cursor"] = json!(cursor);
        }
        socket.send(&hello).await?;
        socket.welcome = socket.wait_for("a welcome", |frame| frame["type"] == "welcome").await?;
        Ok(socket)
    }

    pub async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.send_text(&frame.to_string()).await
    }

    pub async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// The next frame, or `None` when `bound` has passed without one.
    pub async fn next(&mut self, bound: Duration) -> anyhow::Result<Option<Value>> {
        let text = self.next_text(bound).await?;
        text.map(|text| serde_json::from_str(&text).context("not JSON")).transpose()
    }

    /// As `next`, for those who look at some of it only.
    pub async fn next_text(&mut self, bound: Duration) -> anyhow::Result<Option<Utf8Bytes>> {
        loop {
            match timeout(bound, self.stream.next()).await {
                Err(_) => return Ok(None),
                Ok(None) => bail!("the server closed the connection"),
                Ok(Some(Ok(Message::Text(text)))) => return Ok(Some(text)),
                Ok(Some(Ok(Message::Close(Some(frame))))) => {
                    bail!("closed with {}: {}", u16::from(frame.code), frame.reason)
                }
                Ok(Some(Ok(Message::Close(None)))) => bail!("closed without a code"),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => bail!("the connection broke: {error}"),
            }
        }
    }

    /// Reads on until a frame is `wanted`; what comes before is dropped.
    pub async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        Ok(self.collect_until(what, wanted).await?.pop().unwrap_or(Value::Null))
    }

    /// All frames up to and with the first that is `wanted`.
    pub async fn collect_until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        let mut frames = Vec::new();
        loop {
            let Some(frame) = self.next(WAIT).await? else {
                bail!("waited {WAIT:?} in vain for {what}; came: {frames:?}")
            };
            let found = wanted(&frame);
            frames.push(frame);
            if found {
                return Ok(frames);
            }
        }
    }

    /// The close code and reason that the server ends the connection with; frames before it are dropped.
    pub async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        loop {
            match timeout(WAIT, self.stream.next()).await.context("the server did not close in time")? {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Ok((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(Message::Close(None))) => bail!("closed without a code"),
                Some(Ok(_)) => {}
                Some(Err(error)) => bail!("the connection broke: {error}"),
                None => bail!("the connection ended without a close frame"),
            }
        }
    }
}

/// Whether a frame tells of this message.
pub fn tells_of_message(frame: &Value, id: i64) -> bool {
    frame["type"] == "updated_model" && frame["class"] == "Message" && frame["model"]["id"] == id
}
