//! Tokens: who makes them signs, everyone else only checks.
//!
//! A token is a JWT signed with Ed25519; its key id is in the header, and the public keys are in the
//! registry. Nobody asks anybody whether a token is good: each process holds the keys and the list of
//! revoked tokens in memory, kept current by a watch. Who may have a token is the business of tokens.

mod claims;
mod crypto;
mod registry;
mod signing;
mod verifier;

pub use signing::SigningKey;
pub use verifier::Verifier;
