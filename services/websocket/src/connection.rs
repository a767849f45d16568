//! A client's connection.
//!
//! `upgrade` accepts it if there is a permit (`permits`). `stream` counts the client's frames. `hello` reads the first
//! frame and answers it; the `channels` of a user are read first. `session` then serves the client: it reads frames
//! (`incoming`), performs the actions that they request (`actions`), and writes (`outgoing`). When the instance drains,
//! sessions end in batches (`draining`).

mod context;
mod permits;
mod draining;
mod stream;
mod outgoing;
mod incoming;
mod actions;
mod channels;
mod session;
mod hello;
pub mod upgrade;

pub use channels::ChannelLists;
pub use context::{Peers, SocketContext};
pub use draining::Draining;
pub use permits::Permits;
