//! HAProxy's master process: starts a new worker from the files while the old worker finishes its connections.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use backon::{ConstantBuilder, Retryable as _};
use tokio::time::timeout;

use crate::admin_socket::AdminSocket;

/// A reload takes a quarter of a second on an idle machine.
const NEW_WORKER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: ConstantBuilder = ConstantBuilder::new().with_delay(Duration::from_millis(10)).without_max_times();

/// Reloads, and returns when a worker with this structure answers on the admin socket.
pub async fn reload(dir: &Path, admin: &AdminSocket, structure: &str) -> anyhow::Result<()> {
    // The master executes itself again and may not answer: only the new worker shows the result.
    let _ = AdminSocket::new(dir.join("master.sock")).send("reload").await;
    let new_worker = || async {
        let answer = admin.send("show env FLACK_STRUCTURE").await?;
        ensure!(answer.contains(structure), "the old worker still answers");
        Ok(())
    };
    timeout(NEW_WORKER_TIMEOUT, new_worker.retry(POLL))
        .await
        .context("no new worker answers after the reload; the old one keeps running")?
}
