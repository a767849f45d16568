//! The end of the sessions of a draining instance, and of a side to which the balancer sends no new connections any
//! more: in batches, so that its clients do not all reconnect to other instances in the same moment.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flack_common::{authority::Ownership, process::Background};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::permits::Permits;

const BATCHES: usize = 10;
/// The pause between two batches: 10,000 connections are closed within a second. The process ends those that are left
/// after three seconds.
const PAUSE_PER_CONNECTION: Duration = Duration::from_micros(10);
/// After the sessions of a side have ended, connections may arrive that the balancer has sent just before.
const STRAGGLERS_INTERVAL: Duration = Duration::from_secs(1);

type Batches = [CancellationToken; BATCHES];

/// The batches that sessions belong to. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Draining {
    batches: Arc<Mutex<Batches>>,
    next: Arc<AtomicUsize>,
}

impl Draining {
    /// Returns batches that end one after the other when the process stops, or when connections go to the other side.
    pub fn start(permits: &Permits, ownership: &Ownership, background: &Background) -> Self {
        let draining = Self::default();
        let (this, permits, mut departure) = (draining.clone(), permits.clone(), ownership.departure());
        let pause =
            move || PAUSE_PER_CONNECTION.saturating_mul(u32::try_from(permits.connections()).unwrap_or(u32::MAX));
        let stopping = background.stopping();
        background.spawn("draining connections", async move {
            let departing = async {
                loop {
                    departure.wait().await;
                    // The part may come back: new sessions get new batches.
                    let batches = std::mem::take(&mut *this.batches());
                    end(&batches, pause()).await;
                    sleep(STRAGGLERS_INTERVAL).await;
                }
            };
            stopping.run_until_cancelled(departing).await;
            // They stay cancelled, also for sessions that begin now.
            let batches = this.batches().clone();
            end(&batches, pause()).await;
        });
        draining
    }

    /// Returns the token of the batch of a new session.
    pub fn batch(&self) -> CancellationToken {
        self.batches()[self.next.fetch_add(1, Ordering::Relaxed) % BATCHES].clone()
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end(batches: &Batches, pause: Duration) {
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
        let batches = Batches::default();
        let ending = batches.clone();
        tokio::spawn(async move { end(&ending, Duration::from_millis(100)).await });
        batches[0].cancelled().await;
        assert!(!batches[1].is_cancelled());
        batches[BATCHES - 2].cancelled().await;
        assert!(!batches[BATCHES - 1].is_cancelled());
        batches[BATCHES - 1].cancelled().await;
    }
}
