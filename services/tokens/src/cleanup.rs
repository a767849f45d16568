//! The cleanup task: deletes expired tokens.

use std::time::Duration;

use flack_api::Context;
use flack_common::{authority::Ownership, process::Background};
use tracing::debug;

use crate::store::Store;

const CLEANUP_INTERVAL: Duration = Duration::from_mins(1);

/// Tokens deleted in one transaction.
const CLEANUP_TOKENS_MAX: i64 = 500;

/// Starts the task, which works while this process owns tokens.
pub fn start(store: Store, ownership: Ownership, background: &Background) {
    background.every("cleanup", CLEANUP_INTERVAL, move || {
        let (store, ownership) = (store.clone(), ownership.clone());
        async move { if ownership.is_held() { clean(&store).await.map(drop) } else { Ok(()) } }
    });
}

/// Deletes all expired tokens and returns how many.
pub async fn clean(store: &Store) -> sqlx::Result<u64> {
    let context = Context::background();
    let mut tokens = 0;
    loop {
        let deleted = store.delete_expired(&context, CLEANUP_TOKENS_MAX).await?;
        tokens += deleted;
        if deleted < CLEANUP_TOKENS_MAX.unsigned_abs() {
            if tokens > 0 {
                debug!(tokens, "deleted expired tokens");
            }
            return Ok(tokens);
        }
    }
}
