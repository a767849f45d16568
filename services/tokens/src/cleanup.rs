//! Deletes what has expired: a token that nobody accepts any more needs no row.

use std::time::Duration;

use flack_api::Context;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::store::Store;

const CLEANUP_INTERVAL: Duration = Duration::from_mins(1);

/// Tokens deleted in one transaction.
const CLEANUP_TOKENS_MAX: i64 = 500;

/// Runs until `stopping`; pauses while `owns` says that tokens belong to somebody else.
pub async fn run(store: Store, owns: impl Fn() -> bool + Send, stopping: CancellationToken) {
    let mut ticks = interval(CLEANUP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        if !owns() {
            continue;
        }
        match clean(&store).await {
            Ok(0) => {}
            Ok(tokens) => debug!(tokens, "deleted expired tokens"),
            Err(error) => warn!(%error, "could not delete expired tokens; trying again"),
        }
    }
}

/// Deletes all that has expired; says how many tokens.
pub async fn clean(store: &Store) -> sqlx::Result<u64> {
    let context = Context::background();
    let mut tokens = 0;
    loop {
        let deleted = store.delete_expired(&context, CLEANUP_TOKENS_MAX).await?;
        tokens += deleted;
        if deleted < CLEANUP_TOKENS_MAX.unsigned_abs() {
            return Ok(tokens);
        }
    }
}
