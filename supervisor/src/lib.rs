//! A process manager for one machine: it starts processes, restarts those that exit, rotates their logs, and stops them
//! in order. It is not specific to any application.
//!
//! One process calls [`run`] and becomes the supervisor, the parent of all processes, in a session of its own, so that
//! closing a terminal stops nothing. Other processes control it with a [`Client`], over a Unix socket. If the
//! supervisor itself is killed, its processes go on, and [`orphans`] finds and stops them.
//!
//! Leaves to others: which processes to run, in what environment, and whether they are ready to serve.

mod error;
mod paths;
mod spec;
mod protocol;

mod client;
pub mod orphans;
pub mod process;

mod backoff;
mod kernel;
mod log;
mod child;
mod table;
mod control;
mod log_rotation;
mod daemon;

pub use client::Client;
pub use daemon::run;
pub use error::{Error, Result};
pub use paths::Paths;
pub use protocol::{Ended, ProcessStatus, State};
pub use spec::{Environment, Spec, Stop, StopSignal};
