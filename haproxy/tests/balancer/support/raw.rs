//! Requests as bytes, from a chosen address: what an attacker sends, and HTTP clients do not.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another client, for the balancer.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer. Its status is 0 if the connection ended without one.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    pub text: String,
}

impl Raw {
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    fn is_complete(&self) -> bool {
        let length = self.header("Content-Length").and_then(|length| length.parse().ok());
        self.text.contains("\r\n\r\n") && length.is_some_and(|length: usize| self.body().len() >= length)
    }
}

/// Connects to a listener (`http://<address>`) from a source address.
pub async fn connect(source: Ipv4Addr, listener: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((source, 0).into()).expect("an address of the loopback network");
    let address = listener.strip_prefix("http://").unwrap_or(listener).parse().expect("an address");
    socket.connect(address).await
}

/// Sends the lines of a request, and returns the answer.
pub async fn send(connection: &mut TcpStream, lines: &[&str]) -> Raw {
    let request = format!("{}\r\n\r\n", lines.join("\r\n"));
    let mut answer = Raw { status: 0, text: String::new() };
    let exchange = async {
        connection.write_all(request.as_bytes()).await?;
        let mut bytes = [0; 4096];
        while !answer.is_complete() {
            let read = connection.read(&mut bytes).await?;
            if read == 0 {
                break;
            }
            answer.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        std::io::Result::Ok(())
    };
    // A reset ends the answer like a close.
    let _ = timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| panic!("no answer to {lines:?}"));
    answer.status = answer.text.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    answer
}
