//! The cleanup task: deletes files that no message has.

use std::time::Duration;

use flack_common::{authority::Ownership, process::Background};
use tracing::debug;

use crate::store::Store;

const CLEANUP_INTERVAL: Duration = Duration::from_mins(1);

/// Files deleted in one transaction. A row has up to 1 MiB in some hundred parts, and a statement 5 s.
const CLEANUP_FILES_MAX: i64 = 100;

/// Starts the task, which works while this process owns messages.
pub fn start(store: Store, ownership: Ownership, background: &Background) {
    background.every("unused files", CLEANUP_INTERVAL, move || {
        let (store, ownership) = (store.clone(), ownership.clone());
        async move {
            while ownership.is_held() {
                let files = store.delete_unused_files(CLEANUP_FILES_MAX).await?;
                debug!(files, "deleted files that no message has");
                if files < CLEANUP_FILES_MAX.unsigned_abs() {
                    break;
                }
            }
            Ok::<_, sqlx::Error>(())
        }
    });
}
