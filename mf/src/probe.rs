//! A minimal HTTP client for health checks: one GET request with a timeout.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(2);
/// HAProxy's statistics are the longest response.
const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// Returns `None` if there is no HTTP response in time.
pub async fn get(address: &str, path: &str) -> Option<Response> {
    tokio::time::timeout(TIMEOUT, exchange(address, path)).await.ok()?.ok()?
}

async fn exchange(address: &str, path: &str) -> std::io::Result<Option<Response>> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the response ends where the connection ends.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    // HAProxy sends its statistics in chunks even to HTTP/1.0.
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Ok(status.map(|status| Response { status, body }))
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        body.push_str(chunk);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

pub async fn is_ok(address: &str, path: &str) -> bool {
    get(address, path).await.is_some_and(|response| response.status == 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunked("5\r\nhello\r\n7; x=y\r\n, world\r\n0\r\n\r\n"), "hello, world");
        assert_eq!(unchunked("5\r\nhel"), "", "an incomplete chunk is left out");
    }
}
