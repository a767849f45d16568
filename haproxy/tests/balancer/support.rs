//! A stack of etcd, HAProxy and the agent, and instances behind it.

mod instance;
mod load;
mod raw;
mod stack;

pub use instance::Instance;
pub use load::{CLIENTS, Load, Requests};
pub use raw::{LOCAL, OTHER, Raw, connect, send};
pub use stack::{Stack, answered_by, seen, token};
