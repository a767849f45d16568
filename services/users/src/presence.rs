//! The presence task: marks users as offline whose last sign of life is too old.

use std::time::Duration;

use flack_api::Context;
use flack_common::{authority::Ownership, process::Background};
use tracing::debug;

use crate::{model::PRESENCE_SECONDS_MAX, store::Store};

/// A silent user is shown as online at most this much longer than `PRESENCE_SECONDS_MAX`.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Users marked in one transaction, so that its row locks are short.
const SWEEP_USERS_MAX: i64 = 500;

/// Starts the task, which works while this process owns users.
pub fn start(store: Store, ownership: Ownership, background: &Background) {
    background.every("presence", SWEEP_INTERVAL, move || {
        let (store, ownership) = (store.clone(), ownership.clone());
        async move { if ownership.is_held() { sweep(&store, PRESENCE_SECONDS_MAX).await.map(drop) } else { Ok(()) } }
    });
}

/// Marks all users as offline whose last sign of life is older than `silence`, and returns how many.
pub async fn sweep(store: &Store, silence: Duration) -> sqlx::Result<u64> {
    let context = Context::background();
    let mut users = 0;
    loop {
        let swept = store.set_silent_offline(&context, silence, SWEEP_USERS_MAX).await?;
        users += swept;
        if swept < SWEEP_USERS_MAX.unsigned_abs() {
            if users > 0 {
                debug!(users, "marked silent users as offline");
            }
            return Ok(users);
        }
    }
}
