//! Access tokens: JWTs signed with Ed25519. The owner of tokens signs them, every process verifies them.
//!
//! The key id is in the token's header, the public keys are in the registry. Each process has the keys and the list of
//! revoked tokens in memory, so verification needs no call. The part `tokens` decides who gets a token.

mod claims;
mod crypto;
mod registry;
mod signing;
mod verifier;

pub use signing::SigningKey;
pub use verifier::Verifier;
