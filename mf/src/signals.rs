//! Signals that interrupt a command.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal was closed). From the call on these do not end the
/// process, also before the future is polled.
pub fn interrupted() -> impl Future<Output = ()> {
    let mut waits = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        match signal(kind) {
            Ok(mut signal) => waits.push(Box::pin(async move { signal.recv().await })),
            // This signal then ends the process at once, as it does by default; mfdown cleans up.
            Err(error) => eprintln!("mf: cannot handle signals: {error}"),
        }
    }
    async move {
        if waits.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(waits).await;
    }
}
