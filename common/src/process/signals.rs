//! SIGTERM and SIGINT: the first one starts the shutdown, the second one ends the process at once.

use std::process::exit;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The shell's exit code for a process that was ended by Ctrl-C.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// Returns the token that the first signal cancels.
pub fn listen() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let signal = next(&mut terminate, &mut interrupt).await;
        info!(signal, "stopping");
        token.cancel();
        let signal = next(&mut terminate, &mut interrupt).await;
        warn!(signal, "stopping at once: requests in flight are aborted");
        exit(EXIT_CODE_INTERRUPTED);
    });
    Ok(shutdown)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
