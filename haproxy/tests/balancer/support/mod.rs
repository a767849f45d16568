//! A stack of etcd, HAProxy and the agent, and instances to put behind it.

mod instance;
mod load;
mod stack;

pub use instance::Instance;
pub use load::Load;
pub use stack::{Stack, answered_by};

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Long enough for a busy machine with two cores; nothing here takes a tenth of it.
pub const BOUND: Duration = Duration::from_secs(20);

/// Asks until the answer is yes, and panics when it never is.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let started = Instant::now();
    while !ask().await {
        assert!(started.elapsed() < BOUND, "waited {BOUND:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
