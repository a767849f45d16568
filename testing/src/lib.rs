//! Shared code of the parts' tests: a client of a router, tokens, published events, etcd, NATS, bounded waits.
//!
//! Only tests depend on it.

mod client;
mod service;
mod events;
mod projected;
mod etcd;
mod nats;
mod port;
mod wait;
pub mod ownership;

pub use client::{Answer, Call, Client};
pub use etcd::Etcd;
pub use events::{UsersStandIn, published};
pub use nats::Nats;
pub use port::free_port;
pub use projected::Projected;
pub use service::TestService;
pub use wait::{WAIT_MAX, eventually, eventually_within};
