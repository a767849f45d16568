//! Bounded waits.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep};

/// The bound of a wait without its own.
pub const WAIT_MAX: Duration = Duration::from_mins(1);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds. Panics at the caller's place after [`WAIT_MAX`].
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    eventually_within(WAIT_MAX, what, condition)
}

/// Waits until `condition` holds. Panics at the caller's place after `bound`.
#[track_caller]
pub fn eventually_within(
    bound: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + bound;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: {what}: not within {bound:?}");
            sleep(POLL_INTERVAL).await;
        }
    }
}
