//! The claims of a token. Its holder can read them, so they contain no secret.

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The only accepted algorithm, whatever the token's header names.
pub(super) const ALGORITHM: Algorithm = Algorithm::EdDSA;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The user's id; text because of RFC 7519.
    pub sub: String,
    /// The token's id, for revocation.
    pub jti: Uuid,
    /// Unix seconds.
    pub iat: i64,
    /// Unix seconds.
    pub exp: i64,
}
