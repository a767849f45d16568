//! Restarts of work that should run for ever: the relay, a consumer, a registry watch.
//!
//! Unlike `Background::supervise`, this runs inside a task, and the work itself logs its failures.

use std::{convert::Infallible, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{Instant, sleep};

const DELAY_MIN: Duration = Duration::from_millis(50);

/// Runs `work` until the future is dropped: after a failure it waits, and runs `work` again. `work` logs its failures.
///
/// The delay has jitter and doubles with each failure up to `delay_max`. It is short again after a run of more than
/// twice `delay_max`.
pub async fn restart_on_failure<F>(delay_max: Duration, mut work: impl FnMut() -> F) -> Infallible
where
    F: Future<Output = anyhow::Result<Infallible>>,
{
    let backoff =
        ExponentialBuilder::new().with_min_delay(DELAY_MIN).with_max_delay(delay_max).with_jitter().without_max_times();
    let mut delays = backoff.build();
    loop {
        let started = Instant::now();
        let Err(_) = work().await;
        if started.elapsed() > delay_max * 2 {
            delays = backoff.build();
        }
        sleep(delays.next().unwrap_or(delay_max)).await;
    }
}
