//! The pause before a process that exited is restarted.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The jitter of `backon` adds up to as much again.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A process that ran this long has not crashed at its start: counting starts again.
const STABLE: Duration = Duration::from_secs(30);
/// From this number on, the process is called crash looping.
const CRASHES_IN_A_ROW_MAX: u32 = 5;

#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: ExponentialBackoff,
    crashes_in_a_row: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(PAUSE_FIRST)
            .with_max_delay(PAUSE_MAX)
            // Processes that crash at the same time must not restart at the same time.
            .with_jitter()
            .without_max_times()
            .build();
        Self { pauses, crashes_in_a_row: 0 }
    }

    /// Returns the pause after a process exited that ran for `uptime`.
    pub(crate) fn crashed(&mut self, uptime: Duration) -> Duration {
        if uptime >= STABLE {
            *self = Self::new();
        }
        self.crashes_in_a_row += 1;
        self.pauses.next().unwrap_or(PAUSE_MAX)
    }

    pub(crate) fn is_looping(&self) -> bool {
        self.crashes_in_a_row >= CRASHES_IN_A_ROW_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_a_limit_and_is_short_again_after_a_stable_run() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.crashed(Duration::ZERO)).collect();
        assert!(pauses[0] <= PAUSE_FIRST * 2, "{pauses:?}");
        assert!(pauses[3] >= pauses[0] * 4, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX * 2), "{pauses:?}");
        assert!(backoff.is_looping());
        assert!(backoff.crashed(STABLE) <= PAUSE_FIRST * 2);
        assert!(!backoff.is_looping());
    }
}
