//! When somebody wants us to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ctrl-C, a polite kill, or the terminal's end.
pub async fn interrupted() {
    let mut waits = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        match signal(kind) {
            Ok(mut signal) => waits.push(Box::pin(async move { signal.recv().await })),
            // Then this one ends us as it does by default, and mfdown cleans up.
            Err(error) => eprintln!("mf: cannot listen to signals: {error}"),
        }
    }
    if waits.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waits).await;
}
