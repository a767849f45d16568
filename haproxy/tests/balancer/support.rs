//! A stack of etcd, HAProxy and the agent, and instances behind it.

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

/// Sufficient for a busy machine with two cores; each wait here takes less than a tenth of it.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// Polls until the condition is true. Panics after `WAIT_MAX`.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < WAIT_MAX, "not within {WAIT_MAX:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
