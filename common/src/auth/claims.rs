//! What a token says. Nothing secret, nothing that changes: everyone who holds it can read it.

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one algorithm that is ever accepted: a header that names another is not believed.
pub(super) const ALGORITHM: Algorithm = Algorithm::EdDSA;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The user's id; RFC 7519 wants text.
    pub sub: String,
    /// The token's id, by which it can be revoked.
    pub jti: Uuid,
    /// Unix seconds.
    pub iat: i64,
    /// Unix seconds.
    pub exp: i64,
}
