//! The throttle of a copy: it slows the copy down when reads at the owner become slower.
//!
//! Small reads at the owner are measured before the copy and during it. They go through the same process and database
//! as the reads of clients.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep};

use crate::peer::{Peer, PeerError};

/// The number of measured reads from which a percentile is taken.
const SAMPLES: usize = 100;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);
/// A copy begins after this time at the latest.
const CALIBRATION_MAX: Duration = Duration::from_millis(500);
/// The owner's reads may become slower by this ratio ...
const SLOWER_RATIO_MAX: f64 = 1.2;
/// ... or by this time: a smaller difference is noise.
const SLOWER_MAX: Duration = Duration::from_millis(3);
const DELAY_MIN: Duration = Duration::from_millis(10);
const DELAY_MAX: Duration = Duration::from_secs(2);

/// The latencies of reads at the owner.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    before: Option<Duration>,
    samples: VecDeque<Duration>,
    delay: Duration,
    /// Why the copy is slower than it could be.
    pub reason: Option<String>,
}

impl Throttle {
    /// Measures the reads before the copy.
    pub(crate) async fn calibrate(&mut self, peer: &Peer) -> Result<(), PeerError> {
        *self = Self::default();
        let started = Instant::now();
        while self.samples.len() < SAMPLES && started.elapsed() < CALIBRATION_MAX {
            self.sample(peer).await?;
        }
        self.before = self.percentile();
        self.samples.clear();
        Ok(())
    }

    /// Measures one read.
    pub(crate) async fn sample(&mut self, peer: &Peer) -> Result<(), PeerError> {
        let started = Instant::now();
        peer.log().await?;
        self.add(started.elapsed());
        sleep(SAMPLE_INTERVAL).await;
        Ok(())
    }

    fn add(&mut self, latency: Duration) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(latency);
    }

    /// Returns the p99, without the slowest read of a hundred.
    fn percentile(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.samples.iter().copied().collect();
        sorted.sort();
        sorted.get((sorted.len() * 99 / 100).saturating_sub(1)).copied()
    }

    /// Returns how long to wait before the next chunks.
    pub(crate) fn delay(&mut self) -> Duration {
        let (Some(before), Some(now)) = (self.before, self.percentile()) else { return Duration::ZERO };
        if now > before.mul_f64(SLOWER_RATIO_MAX) && now > before + SLOWER_MAX {
            self.delay = (self.delay * 2).clamp(DELAY_MIN, DELAY_MAX);
            self.reason = Some(format!(
                "reads at the owner take {:.1} ms (p99), before the copy {:.1} ms: waiting {} ms between chunks",
                now.as_secs_f64() * 1e3,
                before.as_secs_f64() * 1e3,
                self.delay.as_millis()
            ));
        } else {
            self.delay /= 2;
            if self.delay < DELAY_MIN {
                self.delay = Duration::ZERO;
                self.reason = None;
            }
        }
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_reads_at_the_owner_slow_the_copy_down_and_the_reason_has_both_latencies() {
        let mut throttle = Throttle { before: Some(Duration::from_millis(10)), ..Throttle::default() };
        (0..SAMPLES).for_each(|_| throttle.add(Duration::from_millis(12)));
        assert_eq!(throttle.delay(), Duration::ZERO, "less than the noise");
        (0..SAMPLES).for_each(|_| throttle.add(Duration::from_millis(20)));
        assert_eq!(throttle.delay(), DELAY_MIN);
        assert_eq!(throttle.delay(), DELAY_MIN * 2);
        let reason = throttle.reason.clone().expect("a reason");
        assert!(reason.contains("20.0 ms") && reason.contains("10.0 ms"), "{reason}");
        (0..SAMPLES).for_each(|_| throttle.add(Duration::from_millis(9)));
        while !throttle.delay().is_zero() {}
        assert_eq!(throttle.reason, None);
    }
}
