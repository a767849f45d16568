//! A websocket client for the frames of `api/schemas/frames.schema.json`; every wait has a timeout.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::client::WAIT;

/// Small, because the buffer is filled with zeros before each read, and a verification opens hundreds of sockets.
const READ_BUFFER_BYTES: usize = 4096;

/// A websocket connection that has received its `welcome`.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The `welcome` frame.
    pub welcome: Value,
}

impl Socket {
    /// Connects to the stack at `base` (http://...) and sends nothing.
    pub async fn connect(base: &str) -> Result<Self> {
        let url = format!("{}/ws", base.replacen("http", "ws", 1));
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let connecting = connect_async_with_config(&url, Some(config), true);
        let (stream, _) = timeout(WAIT, connecting).await.context("timed out opening a websocket")??;
        Ok(Self { stream, welcome: Value::Null })
    }

    /// Connects, sends `hello` and waits for `welcome`.
    pub async fn open(base: &str, token: Option<&str>, cursor: Option<&str>) -> Result<Self> {
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

    pub async fn send(&mut self, frame: &Value) -> Result<()> {
        self.send_text(&frame.to_string()).await
    }

    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// Returns the next frame, or `None` if there is none within `wait`.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Value>> {
        let text = self.next_text(wait).await?;
        text.map(|text| serde_json::from_str(&text).context("not JSON")).transpose()
    }

    /// Returns the next frame as text, for callers that parse only some of its members.
    pub async fn next_text(&mut self, wait: Duration) -> Result<Option<Utf8Bytes>> {
        loop {
            match timeout(wait, self.stream.next()).await {
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

    /// Reads until a frame is `wanted`, and drops the frames before it.
    pub async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        Ok(self.collect_until(what, wanted).await?.pop().unwrap_or(Value::Null))
    }

    /// Returns all frames up to the first that is `wanted`, inclusive.
    pub async fn collect_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut frames = Vec::new();
        loop {
            let Some(frame) = self.next(WAIT).await? else {
                bail!("timed out after {WAIT:?} waiting for {what}; received: {frames:?}")
            };
            let found = wanted(&frame);
            frames.push(frame);
            if found {
                return Ok(frames);
            }
        }
    }

    /// Returns the code and reason with which the server closes the connection, and drops the frames before.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        loop {
            match timeout(WAIT, self.stream.next()).await.context("timed out waiting for a close frame")? {
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

/// Whether a frame carries this message.
pub fn is_message(frame: &Value, id: i64) -> bool {
    frame["type"] == "updated_model" && frame["class"] == "Message" && frame["model"]["id"] == id
}
