//! A client's connection. Reading order: `upgrade` accepts it (with a permit of `permits`), `hello` greets it, `session` serves
//! it: frames from the client are `incoming`, what they ask for is done by `actions`, and `outgoing` writes to the client.

mod context;
mod permits;
mod outgoing;
mod incoming;
mod actions;
mod session;
mod hello;
pub mod upgrade;

pub use context::{Peers, SocketContext};
pub use permits::Permits;
