//! Bounded waits.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep};

/// The bound of every wait.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds. Panics at the caller's place after [`WAIT_MAX`].
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + WAIT_MAX;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: {what}: not within {WAIT_MAX:?}");
            sleep(POLL_INTERVAL).await;
        }
    }
}
