//! Who calls, and on behalf of which request: what an operation is handed beside its own arguments.

use std::{fmt, time::Instant};

use secrecy::SecretString;
use uuid::Uuid;

use crate::Problem;

/// A request's identity on its way through processes, events and logs.
#[derive(Debug, Clone)]
pub struct Context {
    /// `X-Correlation-ID`: made at the balancer, or here when a request did not come through it.
    pub correlation_id: String,
    /// W3C `traceparent`, passed on as it came.
    pub traceparent: Option<String>,
    /// When whoever asked stops waiting; calls made on behalf of this request end by then.
    pub deadline: Option<Instant>,
}

impl Context {
    /// For work that no request asked for: background tasks and tests.
    pub fn background() -> Self {
        Self { correlation_id: Uuid::new_v4().to_string(), traceparent: None, deadline: None }
    }
}

/// Somebody with a good token.
#[derive(Clone)]
pub struct TokenCaller {
    pub user_id: i64,
    pub token_id: Uuid,
    /// Unix seconds.
    pub expires_at: i64,
    /// As it came, so that a call to another service can be made in the user's name.
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

/// A nickname and a password, not yet verified: whoever owns users does that.
#[derive(Debug, Clone)]
pub struct BasicCaller {
    pub nickname: String,
    pub password: SecretString,
}

/// Says whose token this is. Every router needs one; who makes tokens and who only checks them differ.
#[async_trait::async_trait]
pub trait VerifyToken: Send + Sync + 'static {
    /// 401 when the token is malformed, forged, expired or revoked; 503 when that cannot be known now.
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem>;
}
