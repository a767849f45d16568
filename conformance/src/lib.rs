//! The black-box suite: tests of a running stack through its balancer.
//!
//! It uses the documents in `api/`, the catalogue and the command `mf`, and links no service. The same cases run
//! against the monolith stage and the services stage, because a client cannot distinguish them.

pub mod stack;
pub mod contract;
pub mod client;
pub mod socket;
pub mod suite;
pub mod benchmark;
pub mod cases;
pub mod delivery;
pub mod load;
