//! How long to wait before a process that ended by itself is started again.

use std::time::Duration;

use rand::Rng;

const DELAY_FIRST: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(30);
/// Who has run this long has not crashed at its start: the count begins anew.
const STABLE: Duration = Duration::from_secs(30);
/// From here on it is called crash looping.
const CRASHES_IN_A_ROW_MAX: u32 = 5;

#[derive(Debug, Default)]
pub struct Backoff {
    crashes_in_a_row: u32,
}

impl Backoff {
    /// A process ended after it ran for `uptime`; gives the pause, doubled each time, with jitter so that those
    /// that fell together do not come back together.
    pub fn crashed(&mut self, uptime: Duration) -> Duration {
        if uptime >= STABLE {
            self.crashes_in_a_row = 0;
        }
        let doubled = DELAY_FIRST.saturating_mul(1 << self.crashes_in_a_row.min(16)).min(DELAY_MAX);
        self.crashes_in_a_row += 1;
        doubled.mul_f64(rand::rng().random_range(0.75..1.25))
    }

    pub fn is_looping(&self) -> bool {
        self.crashes_in_a_row >= CRASHES_IN_A_ROW_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_a_bound_and_begins_anew_after_a_stable_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.crashed(Duration::ZERO)).collect();
        assert!(pauses[0] < DELAY_FIRST * 2, "{pauses:?}");
        assert!(pauses[3] > pauses[0] * 4, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause < DELAY_MAX.mul_f64(1.25)), "{pauses:?}");
        assert!(backoff.is_looping());
        assert!(backoff.crashed(STABLE) < DELAY_FIRST * 2);
        assert!(!backoff.is_looping());
    }
}
