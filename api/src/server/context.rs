//! Reads the context of a request from its headers.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use http::HeaderMap;
use uuid::Uuid;

use crate::{Context, rate_limit::RateLimits};

pub const CORRELATION_ID: &str = "x-correlation-id";
pub const TRACEPARENT: &str = "traceparent";
/// Milliseconds that the caller still waits.
pub const DEADLINE_MS: &str = "x-deadline-ms";
/// The epoch of the record by which a process has passed the request on to the part's other side.
pub const FORWARDED_EPOCH: &str = "x-flack-epoch";
/// With the value [`REPLICA`], the part's replica may answer the read.
pub const READ: &str = "x-flack-read";
pub const REPLICA: &str = "replica";
/// The address of the client. The balancer replaces what a client sends.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

const CORRELATION_ID_BYTES_MAX: usize = 64;
/// A longer wait is reduced to this.
const DEADLINE_MAX: Duration = Duration::from_mins(1);
const TRACEPARENT_BYTES_MAX: usize = 128;

/// Whether a correlation id is short and has only plain characters: logs, events and headers contain it.
pub fn is_correlation_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=CORRELATION_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

impl Context {
    /// Reads the context. A missing or malformed correlation id is replaced by a new one.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let deadline = text(DEADLINE_MS)
            .and_then(|milliseconds| milliseconds.parse().ok())
            .map(|milliseconds| Instant::now() + Duration::from_millis(milliseconds).min(DEADLINE_MAX));
        Self {
            correlation_id: text(CORRELATION_ID)
                .filter(|id| is_correlation_id(id))
                .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            traceparent: text(TRACEPARENT).filter(|text| text.len() <= TRACEPARENT_BYTES_MAX).map(str::to_owned),
            deadline,
            client_address: text(FORWARDED_FOR)
                .and_then(|address| address.parse().ok())
                .map(|address: IpAddr| address.to_canonical()),
            forwarded_epoch: text(FORWARDED_EPOCH).and_then(|epoch| epoch.parse().ok()),
            may_read_replica: text(READ) == Some(REPLICA),
            rate_limits: RateLimits::default(),
        }
    }
}
