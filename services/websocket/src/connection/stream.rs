//! The TCP stream of a client, with the rate limit of its frames.
//!
//! Every frame counts: also a ping, and each fragment of a message. tungstenite returns only whole messages, so the
//! frames are counted here, in the bytes that it reads.

use std::{
    io::{self, Cursor, ErrorKind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use flack_common::process::Connection;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy, sink},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::frame::{
        FrameHeader,
        coding::{Control, OpCode},
    },
};

use crate::limits::{DISCARDED_BYTES_MAX, Limits};

/// The websocket of a client.
pub type Socket = WebSocketStream<ClientStream>;

/// The TCP stream of a client. A read fails with `QuotaExceeded` when the client sends frames too fast.
#[derive(Debug)]
pub struct ClientStream {
    /// What the HTTP server has read after the request.
    early: Bytes,
    connection: Connection,
    frames: FrameCounter,
}

impl ClientStream {
    pub fn new(connection: Connection, early: &[u8], limits: &Limits) -> Self {
        // A copy: the original, even if it is empty, keeps the whole buffer of the HTTP server in memory.
        Self { early: Bytes::copy_from_slice(early), connection, frames: FrameCounter::new(limits) }
    }

    /// Makes the next pong free: it is the answer to a ping of the service.
    pub fn expect_pong(&mut self) {
        self.frames.pongs_expected += 1;
    }

    /// Ends the stream, and waits until the client has ended it too. What the client still sends is discarded: if bytes
    /// were unread, the kernel would reset the connection, and the client might not receive what was sent last.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.connection.shutdown().await?;
        copy(&mut (&mut self.connection).take(DISCARDED_BYTES_MAX), &mut sink()).await?;
        Ok(())
    }

    /// Makes the kernel reset the connection when it is dropped. It then discards at once what the client has not read.
    pub fn reset_on_drop(&self) {
        // It fails only if the connection has ended already.
        let _ = self.connection.tcp().set_zero_linger();
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let filled = buffer.filled().len();
        if stream.early.is_empty() {
            ready!(Pin::new(&mut stream.connection).poll_read(context, buffer))?;
        } else {
            let length = stream.early.len().min(buffer.remaining());
            buffer.put_slice(&stream.early.split_to(length));
            if stream.early.is_empty() {
                stream.early = Bytes::new();
            }
        }
        if stream.frames.allow(&buffer.filled()[filled..]) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(ErrorKind::QuotaExceeded.into()))
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}

/// Counts the frames in the bytes that a client sends.
#[derive(Debug)]
struct FrameCounter {
    /// The bytes of a header that is not complete.
    header: Vec<u8>,
    /// How many bytes of the present frame's payload follow.
    payload_left: u64,
    /// Pings that the client has not answered.
    pongs_expected: u32,
    rate: RateLimiter,
}

impl FrameCounter {
    fn new(limits: &Limits) -> Self {
        Self { header: Vec::new(), payload_left: 0, pongs_expected: 0, rate: RateLimiter::new(limits) }
    }

    /// Counts the frames that begin in these bytes. Returns whether the client was allowed to send them.
    fn allow(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let payload = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= payload as u64;
            bytes = &bytes[payload..];
            let Some((byte, rest)) = bytes.split_first() else { return true };
            self.header.push(*byte);
            bytes = rest;
            // It fails only for a header that tungstenite refuses too, which ends the connection.
            let Ok(Some((header, payload))) = FrameHeader::parse(&mut Cursor::new(&self.header)) else { continue };
            self.header.clear();
            self.payload_left = payload;
            if header.opcode == OpCode::Control(Control::Pong) && self.pongs_expected > 0 {
                self.pongs_expected -= 1;
            } else if !self.rate.allow() {
                return false;
            }
        }
    }
}

/// A token bucket.
#[derive(Debug)]
struct RateLimiter {
    per_second: f64,
    burst: f64,
    available: f64,
    refilled: Instant,
}

impl RateLimiter {
    fn new(limits: &Limits) -> Self {
        let burst = f64::from(limits.frames_burst_max);
        Self { per_second: limits.frames_per_second_max.into(), burst, available: burst, refilled: Instant::now() }
    }

    /// Counts a frame. Returns whether the client was allowed to send it.
    fn allow(&mut self) -> bool {
        let now = Instant::now();
        let refill = (now - self.refilled).as_secs_f64() * self.per_second;
        self.available = (self.available + refill).min(self.burst);
        self.refilled = now;
        let is_allowed = self.available >= 1.0;
        if is_allowed {
            self.available -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(burst: u32) -> FrameCounter {
        let limits = Limits { frames_per_second_max: 0, frames_burst_max: burst, ..Limits::default() };
        FrameCounter::new(&limits)
    }

    /// Returns a masked frame, as a client sends it.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | u8::try_from(payload).unwrap()),
            126..=0xffff => {
                bytes.push(0x80 | 0x7e);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 0x7f);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        // A payload that looks like headers.
        bytes.extend(std::iter::repeat_n(0x81, payload));
        bytes
    }

    #[test]
    fn every_frame_counts_wherever_reads_divide_the_bytes() {
        // Text, first fragment, continuations, ping, pong, close; short, medium and long.
        let frames = [(0x81, 5), (0x01, 0), (0x00, 126), (0x80, 70_000), (0x89, 125), (0x8a, 0), (0x88, 2)];
        let bytes: Vec<u8> = frames.into_iter().flat_map(|(first, payload)| frame(first, payload)).collect();
        for read in [1, 2, 3, 7, 1024, bytes.len()] {
            let mut counter = counter(u32::try_from(frames.len()).unwrap());
            assert!(bytes.chunks(read).all(|bytes| counter.allow(bytes)), "reads of {read}");
            assert!(!counter.allow(&frame(0x00, 0)), "reads of {read}");
        }
    }

    #[test]
    fn a_pong_is_free_only_as_the_answer_to_a_ping() {
        let mut counter = counter(1);
        counter.pongs_expected += 1;
        assert!(counter.allow(&frame(0x8a, 0)), "the answer is free");
        assert!(counter.allow(&frame(0x8a, 0)), "the burst is 1");
        assert!(!counter.allow(&frame(0x8a, 0)));
    }
}
