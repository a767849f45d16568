//! HAProxy's master: starts a new worker from the files, and lets the old one finish.

use std::{io, path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use crate::admin::Admin;

/// A reload takes a quarter of a second; a machine that is busy gets more.
const NEW_WORKER_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_INTERVAL: Duration = Duration::from_millis(10);

/// Reloads, and returns when a worker with this structure answers on the admin socket.
pub async fn reload(dir: &Path, admin: &Admin, structure: &str) -> io::Result<()> {
    let master = Admin::new(dir.join("master.sock"));
    // The master re-executes itself amid the conversation: how that ends says nothing.
    let _ = master.ask("reload").await;
    let deadline = Instant::now() + NEW_WORKER_TIMEOUT;
    while Instant::now() < deadline {
        if let Ok(answer) = admin.ask("show env FLACK_STRUCTURE").await
            && answer.contains(structure)
        {
            return Ok(());
        }
        sleep(ASK_INTERVAL).await;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no new worker came up; the old one goes on"))
}
