//! A stack of etcd, HAProxy and the agent, and instances behind it.

mod instance;
mod load;
mod stack;

pub use instance::Instance;
pub use load::Load;
pub use stack::{Stack, answered_by};
