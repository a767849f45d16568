//! The header fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10: a client can slow
//! down before it gets 429.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A quota of the caller, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// The name of the quota, without quotes and backslashes.
    pub policy: &'static str,
    pub units_max: u32,
    pub window_seconds: u64,
    pub units_left: u32,
    /// Time until the quota is whole again.
    pub reset_seconds: u64,
}

impl RateLimit {
    fn append_to(&self, headers: &mut HeaderMap) {
        let Self { policy, units_max, window_seconds, units_left, reset_seconds } = self;
        for (name, value) in [
            (POLICY, format!("\"{policy}\";q={units_max};w={window_seconds}")),
            (STATE, format!("\"{policy}\";r={units_left};t={reset_seconds}")),
        ] {
            headers.append(name, HeaderValue::try_from(value).expect("names of quotas and numbers are plain"));
        }
    }
}

/// The quotas that were used while a request was processed.
#[derive(Debug, Clone, Default)]
pub struct RateLimits(Arc<Mutex<Vec<RateLimit>>>);

impl RateLimits {
    /// Adds a quota to the answer of this request.
    pub fn report(&self, rate_limit: RateLimit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rate_limit);
    }

    pub(crate) fn append_to(&self, headers: &mut HeaderMap) {
        for rate_limit in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            rate_limit.append_to(headers);
        }
    }
}
