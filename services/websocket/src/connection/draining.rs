//! The end of the sessions of a draining instance: in batches, so that its clients do not all reconnect to the other
//! instances in the same moment.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use flack_common::process::Background;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::permits::Permits;

const BATCHES: usize = 10;
/// The pause between two batches: 10,000 connections are closed within a second. The process ends those that are left
/// after three seconds.
const PAUSE_PER_CONNECTION: Duration = Duration::from_micros(10);

/// The batches that sessions belong to.
#[derive(Debug)]
pub struct Draining {
    batches: [CancellationToken; BATCHES],
    next: AtomicUsize,
}

impl Draining {
    /// Returns batches that end one after the other when the process stops.
    pub fn start(permits: &Permits, background: &Background) -> Self {
        let batches: [CancellationToken; BATCHES] = Default::default();
        let (ending, permits, stopping) = (batches.clone(), permits.clone(), background.stopping());
        background.spawn("draining connections", async move {
            stopping.cancelled().await;
            let connections = u32::try_from(permits.connections()).unwrap_or(u32::MAX);
            end(&ending, PAUSE_PER_CONNECTION.saturating_mul(connections)).await;
        });
        Self { batches, next: AtomicUsize::new(0) }
    }

    /// Returns the token of the batch of a new session.
    pub fn batch(&self) -> CancellationToken {
        self.batches[self.next.fetch_add(1, Ordering::Relaxed) % BATCHES].clone()
    }
}

async fn end(batches: &[CancellationToken; BATCHES], pause: Duration) {
    for batch in batches {
        batch.cancel();
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batches_end_one_after_the_other() {
        let batches: [CancellationToken; BATCHES] = Default::default();
        let ending = batches.clone();
        tokio::spawn(async move { end(&ending, Duration::from_millis(100)).await });
        batches[0].cancelled().await;
        assert!(!batches[1].is_cancelled());
        batches[BATCHES - 2].cancelled().await;
        assert!(!batches[BATCHES - 1].is_cancelled());
        batches[BATCHES - 1].cancelled().await;
    }
}
