//! The task that computes missing keys of nicknames: at the first start after the table was added, and for users that
//! an instance of an older version registers or renames during an upgrade.

use std::time::Duration;

use flack_common::{authority::Ownership, process::Background};
use tracing::info;

use crate::store::Store;

/// For at most this time a nickname is free that is confusable with one that an older version has stored.
const FILL_INTERVAL: Duration = Duration::from_secs(30);

/// Users of one transaction, during which registrations wait: about 50 ms.
const FILL_USERS_MAX: i64 = 1_000;

/// Computes all missing keys, then starts the task. Both work only while this process owns users.
pub async fn start(store: Store, ownership: Ownership, background: &Background) -> anyhow::Result<()> {
    if ownership.is_held() {
        fill(&store).await?;
    }
    background.every("nickname keys", FILL_INTERVAL, move || {
        let (store, ownership) = (store.clone(), ownership.clone());
        async move { if ownership.is_held() { fill(&store).await } else { Ok(()) } }
    });
    Ok(())
}

/// Computes all missing keys, the oldest users' first.
pub async fn fill(store: &Store) -> sqlx::Result<()> {
    let mut after = 0;
    while let Some(last) = store.fill_nickname_keys(after, FILL_USERS_MAX).await? {
        info!(user.id.first = after + 1, user.id.last = last, "computed missing keys of nicknames");
        after = last;
    }
    Ok(())
}
