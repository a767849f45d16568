//! Finds users who have gone without a word, and marks them as gone.

use std::time::Duration;

use flack_api::Context;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{model::PRESENCE_SECONDS_MAX, store::Store};

/// How often to look. A silent user is shown as here at most this much longer than the limit.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Users marked in one transaction: short enough that nobody waits for its locks.
const SWEEP_USERS_MAX: i64 = 500;

/// Runs until `stopping`; pauses while `owns` says that users belong to somebody else.
pub async fn run(store: Store, owns: impl Fn() -> bool + Send, stopping: CancellationToken) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        if !owns() {
            continue;
        }
        match sweep(&store, PRESENCE_SECONDS_MAX).await {
            Ok(0) => {}
            Ok(users) => debug!(users, "no sign of life; marked as offline"),
            Err(error) => warn!(%error, "could not look for silent users; trying again"),
        }
    }
}

/// Marks everybody as offline who gave no sign for `silence` (shorter in tests); says how many.
pub async fn sweep(store: &Store, silence: Duration) -> sqlx::Result<u64> {
    let context = Context::background();
    let mut users = 0;
    loop {
        let swept = store.set_silent_offline(&context, silence, SWEEP_USERS_MAX).await?;
        users += swept;
        if swept < SWEEP_USERS_MAX.unsigned_abs() {
            return Ok(users);
        }
    }
}
