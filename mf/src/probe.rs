//! The smallest HTTP client that can ask "are you there?": one GET, one answer, a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(2);
/// HAProxy's statistics are the longest thing we read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// None when nobody answers in time, or not in HTTP.
pub async fn get(address: &str, path: &str) -> Option<Answer> {
    tokio::time::timeout(DEADLINE, exchange(address, path)).await.ok()?.ok()?
}

async fn exchange(address: &str, path: &str) -> std::io::Result<Option<Answer>> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends where the connection does.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok(status.map(|status| Answer {
        status,
        body: text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default(),
    }))
}

pub async fn is_ok(address: &str, path: &str) -> bool {
    get(address, path).await.is_some_and(|answer| answer.status == 200)
}
