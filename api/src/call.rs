//! The caller and the context of an operation.

use std::{fmt, net::IpAddr, time::Instant};

use secrecy::SecretString;
use uuid::Uuid;

use crate::{Problem, rate_limit::RateLimits};

/// The identity of a request in all processes, events and logs.
#[derive(Debug, Clone)]
pub struct Context {
    /// `X-Correlation-ID`: made by the balancer, or here when a request did not pass the balancer.
    pub correlation_id: String,
    /// W3C `traceparent`, unchanged.
    pub traceparent: Option<String>,
    /// When the client stops waiting. Calls for this request end by then.
    pub deadline: Option<Instant>,
    /// The address of the client, which the balancer puts into `X-Forwarded-For`. A process that reaches the internal
    /// listener or the port of a service directly can choose it, so no limit of an account depends on it alone.
    pub client_address: Option<IpAddr>,
    /// Set when a process of the part's other side has passed the request on: the epoch of the record by which it did.
    /// The public listener removes it from requests of clients, as it does with the next one.
    pub forwarded_epoch: Option<i64>,
    /// Whether a replica may answer the read: the balancer or the owner has sent it there.
    pub may_read_replica: bool,
    /// What is left of the caller's quotas. The router sends it with the answer. Clones share it.
    pub rate_limits: RateLimits,
}

impl Context {
    /// Makes a context for work without a request: background tasks and tests.
    pub fn background() -> Self {
        Self {
            correlation_id: Uuid::new_v4().to_string(),
            traceparent: None,
            deadline: None,
            client_address: None,
            forwarded_epoch: None,
            may_read_replica: false,
            rate_limits: RateLimits::default(),
        }
    }
}

/// A caller with a valid token.
#[derive(Clone)]
pub struct TokenCaller {
    pub user_id: i64,
    pub token_id: Uuid,
    /// Unix seconds. The caller's password was checked shortly after.
    pub issued_at: i64,
    /// Unix seconds.
    pub expires_at: i64,
    /// The token itself, for calls to other services on behalf of the user.
    pub token: SecretString,
}

impl fmt::Debug for TokenCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCaller")
            .field("user_id", &self.user_id)
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

/// A nickname and a password, not yet verified. The owner of users verifies them.
#[derive(Debug, Clone)]
pub struct BasicCaller {
    pub nickname: String,
    pub password: SecretString,
}

/// A verifier of tokens. Every router needs one.
#[async_trait::async_trait]
pub trait VerifyToken: Send + Sync + 'static {
    /// Returns 401 for a malformed, forged, expired or revoked token, and 503 when the verifier cannot decide now.
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem>;
}
