//! How many requests per second this process answers, over the last seconds: the number behind `/stats`.
//!
//! Figures that are kept and compared are Prometheus metrics; this one is for people who look right now.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

/// Long enough to be calm, short enough to show what happens now.
const WINDOW: usize = 15;
const WINDOW_SECONDS: u64 = WINDOW as u64;

static PROCESS: LazyLock<RequestRate> = LazyLock::new(RequestRate::default);

/// Counts by second, in a ring.
#[derive(Debug)]
pub struct RequestRate {
    started: Instant,
    /// For each slot of the ring, which second it counts and how many there were.
    seconds: Mutex<[(u64, u64); WINDOW]>,
}

impl Default for RequestRate {
    fn default() -> Self {
        Self { started: Instant::now(), seconds: Mutex::new([(0, 0); WINDOW]) }
    }
}

impl RequestRate {
    /// The rate of this process: `process::run` records every request here.
    pub fn of_process() -> &'static Self {
        &PROCESS
    }

    /// Counts one request.
    pub fn record(&self) {
        self.record_at(self.started.elapsed().as_secs());
    }

    /// The mean of the last 15 seconds, or of the time since the start when that is shorter.
    pub fn per_second(&self) -> f64 {
        self.per_second_at(self.started.elapsed().as_secs())
    }

    fn record_at(&self, second: u64) {
        // A counter cannot be left half changed by a panic elsewhere.
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
    fn a_process_that_has_just_started_is_not_averaged_over_time_it_did_not_live() {
        let rate = RequestRate::default();
        rate.record_at(0);
        rate.record_at(1);
        assert!((rate.per_second_at(1) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn requests_of_long_ago_do_not_count() {
        let rate = RequestRate::default();
        rate.record_at(3);
        assert!(rate.per_second_at(100) == 0.0);
    }
}
