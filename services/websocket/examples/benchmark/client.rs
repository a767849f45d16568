//! A client that uses little CPU and memory: it parses only the headers of frames.

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const READ_BYTES: usize = 16 * 1024;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

pub struct Socket {
    stream: TcpStream,
    /// Bytes that were read. Those before `taken` are frames that were returned.
    buffer: Vec<u8>,
    taken: usize,
}

impl Socket {
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.context("the service closed the connection")?);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 101"), "no websocket: {}", String::from_utf8_lossy(&answer));
        Ok(Self { stream, buffer: Vec::new(), taken: 0 })
    }

    /// Connects and sends `hello`.
    pub async fn hello(address: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let mut socket = Self::connect(address).await?;
        let hello = serde_json::json!({ "type": "hello", "token": token });
        socket.send(TEXT, hello.to_string().as_bytes()).await?;
        let welcome = String::from_utf8(socket.next().await?.to_vec())?;
        ensure!(welcome.contains("welcome") && (token.is_none() || welcome.contains("user_id")), "{welcome}");
        Ok(socket)
    }

    /// Returns the next text frame.
    pub async fn next(&mut self) -> anyhow::Result<&[u8]> {
        let (from, to) = loop {
            let Some((kind, from, to)) = header(&self.buffer[self.taken..]) else {
                self.read_more().await?;
                continue;
            };
            let (from, to) = (self.taken + from, self.taken + to);
            self.taken = to;
            match kind {
                TEXT => break (from, to),
                PING => self.send(PONG, b"").await?,
                CLOSE => bail!("closed: {}", String::from_utf8_lossy(&self.buffer[from..to])),
                _ => {}
            }
        };
        Ok(&self.buffer[from..to])
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // Reserved only when there are bytes to read, so that idle clients need little memory.
        self.stream.readable().await?;
        self.buffer.reserve(READ_BYTES);
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the service closed the connection");
        Ok(())
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = vec![0x80 | kind];
        if let Ok(length @ ..=125) = u8::try_from(payload.len()) {
            frame.push(0x80 | length);
        } else {
            frame.push(0x80 | 0x7e);
            frame.extend(u16::try_from(payload.len())?.to_be_bytes());
        }
        // The protocol requires a mask; zeros are allowed.
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await?;
        Ok(())
    }
}

/// Returns the kind of a frame, and where its payload begins and ends; `None` while it is incomplete.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (kind, short) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    let (from, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= from + length).then_some((kind, from, from + length))
}
