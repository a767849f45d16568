//! The supervisor: the parent of every process of one stack, in a session of its own, so that closing a terminal ends nothing.
//!
//! It knows how to start, stop and start again; it does not know what a database or a service is. `mf up` tells it what
//! to run, over a socket in the state folder, and secrets reach it there and nowhere else.

// The words both sides speak, then the side that asks, then the side that answers.
pub mod client;
pub mod protocol;
pub mod spec;

mod backoff;
mod child;
mod kernel;
mod control;
mod daemon;
pub mod leftovers;
mod rotate;

pub use client::Client;
pub use daemon::run;
pub use protocol::{ProcessStatus, State};
pub use spec::{Environment, Spec};
