//! Deletes what has expired: a token that nobody accepts any more needs no row.

use std::time::Duration;

use flack_api::Context;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::store::Store;

const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// Tokens deleted in one transaction.
const CLEANUP_TOKENS_MAX: i64 = 500;

/// Runs until it is dropped; pauses while `owns` says that tokens belong to somebody else.
pub async fn clean_for_ever(store: Store, owns: impl Fn() -> bool + Send) {
    let mut ticks = interval(CLEANUP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
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
