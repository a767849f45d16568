//! The current request rate of this process, for the page `/stats`. For everything else there are Prometheus metrics.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

/// The average of this many seconds is stable and still current.
const WINDOW: usize = 15;
const WINDOW_SECONDS: u64 = WINDOW as u64;

static PROCESS: LazyLock<RequestRate> = LazyLock::new(RequestRate::default);

/// The number of requests in each of the last 15 seconds.
#[derive(Debug)]
pub struct RequestRate {
    started: Instant,
    /// For each slot: its second and its count.
    seconds: Mutex<[(u64, u64); WINDOW]>,
}

impl Default for RequestRate {
    fn default() -> Self {
        Self { started: Instant::now(), seconds: Mutex::new([(0, 0); WINDOW]) }
    }
}

impl RequestRate {
    /// Returns the rate of this process; the middleware records every request.
    pub fn of_process() -> &'static Self {
        &PROCESS
    }

    /// Counts one request.
    pub fn record(&self) {
        self.record_at(self.started.elapsed().as_secs());
    }

    /// Returns the mean of the last 15 seconds, or since the start when that is shorter.
    pub fn per_second(&self) -> f64 {
        self.per_second_at(self.started.elapsed().as_secs())
    }

    fn record_at(&self, second: u64) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut seconds[slot_of(second)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of 15 seconds are far below 2^52")]
    fn per_second_at(&self, now: u64) -> f64 {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: u64 = seconds
            .iter()
            .filter(|(second, _)| *second <= now && now - second < WINDOW_SECONDS)
            .map(|(_, count)| count)
            .sum();
        sum as f64 / (now + 1).min(WINDOW_SECONDS) as f64
    }
}

fn slot_of(second: u64) -> usize {
    usize::try_from(second % WINDOW_SECONDS).expect("a remainder of 15 fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_mean_of_the_last_fifteen_seconds() {
        let rate = RequestRate::default();
        for second in 0..30 {
            for _ in 0..second {
                rate.record_at(second);
            }
        }
        let expected = f64::from((15..30).sum::<u32>()) / 15.0;
        assert!((rate.per_second_at(29) - expected).abs() < f64::EPSILON);
    }

    #[test]
    fn the_rate_after_a_start_is_the_mean_since_then() {
        let rate = RequestRate::default();
        rate.record_at(0);
        rate.record_at(1);
        assert!((rate.per_second_at(1) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn old_requests_do_not_count() {
        let rate = RequestRate::default();
        rate.record_at(3);
        assert!(rate.per_second_at(100) == 0.0);
    }
}
