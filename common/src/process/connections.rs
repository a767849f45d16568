//! The accepted connections: their limit, their end, and the answers that the HTTP library gives by itself.
//!
//! Above the limit, connections wait in the socket's queue, and the balancer, which sees that this instance is slow,
//! uses other instances.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use super::problems;

/// More than the 10,000 websockets of an instance, so that it can still answer further ones with 503. Each connection
/// takes a file descriptor and some kilobytes.
pub const CONNECTIONS_MAX: usize = 12_000;
/// A client that still sends reads the last answer within this time. The balancer closes at once.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_READ_BYTES: usize = 16_384;

/// A listener with a limited number of open connections.
#[derive(Debug)]
pub struct BoundedListener {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl BoundedListener {
    pub fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(connections_max)) }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let free = Arc::clone(&self.free);
        let permit = free.acquire_owned().await.expect("the semaphore is never closed");
        // Axum's implementation waits when the process has no free file descriptor.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Small answers must not wait for a full packet. A socket that refuses this option fails anyway.
        let _ = stream.set_nodelay(true);
        (Connection { stream, refusal: None, linger: None, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// An open connection. It holds a permit until it is dropped, also as a websocket.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The rest of a problem that is sent instead of the HTTP library's answer without a body.
    refusal: Option<Vec<u8>>,
    /// Set when the answers are sent completely.
    linger: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Returns the TCP stream, whose options can be set.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a problem if `bytes` is an answer that the HTTP library made for a malformed request. It is always the
    /// last one of its connection. Returns nothing for all other bytes.
    fn poll_refuse(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none() {
            self.refusal = Some(problems::for_bare_answer(bytes)?);
        }
        let refusal = self.refusal.as_mut()?;
        while !refusal.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, refusal) {
                Poll::Ready(Ok(written)) if written > 0 => drop(refusal.drain(..written)),
                Poll::Ready(Ok(_)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                other => return Some(other),
            }
        }
        self.refusal = None;
        Some(Poll::Ready(Ok(bytes.len())))
    }

    /// Reads and discards what the client still sends, until it closes, or for a short time. If a socket is closed
    /// with unread data, the kernel resets the connection, and the client loses the last answer.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        let mut discarded = [0; LINGER_READ_BYTES];
        loop {
            if linger.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_refuse(context, bytes) {
            Some(polled) => polled,
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // An answer without a body is one slice.
        if let [bytes] = slices {
            return self.poll_write(context, bytes);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.linger = Some(Box::pin(sleep(LINGER_TIMEOUT)));
        }
        self.poll_discard(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_above_the_limit_is_accepted_when_another_one_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = BoundedListener::new(listener, 1);
        let _first_client = TcpStream::connect(address).await.unwrap();
        let _second_client = TcpStream::connect(address).await.unwrap();

        let (first, _) = listener.accept().await;
        let mut second = Box::pin(listener.accept());
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }
}
