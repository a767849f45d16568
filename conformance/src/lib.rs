//! The black-box suite: what Flack promises, asked of a running stack through its balancer.
//!
//! It knows the documents in `api/` and the command `mf`, and nothing of how a process works inside. The same
//! cases run against the monolith stage and the services stage: a client cannot tell one from the other.

pub mod stack;
pub mod contract;
pub mod client;
pub mod socket;
pub mod suite;
pub mod cases;
pub mod delivery;
