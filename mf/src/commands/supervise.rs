//! `mf supervise`: the stack's supervisor. `mf up` starts it; it is not for people.

use crate::failure::Result;
use crate::home::Home;
use crate::infra::nats;
use crate::stack::Stack;

#[derive(Debug, clap::Args)]
pub struct Args {}

/// Supervises the processes, and makes streams again that NATS has lost: no service may make them.
pub async fn run() -> Result<()> {
    flack_common::telemetry::init("supervisor");
    let home = Home::from_environment()?;
    let paths = home.supervisor()?;
    let keeping = tokio::spawn(async move {
        let keep = async || {
            let stack = Stack::open(&home)?;
            nats::keep(&stack.ports, &stack.secrets, 1).await
        };
        let Err(error) = keep().await;
        tracing::error!(error = format!("{error:#}"), "streams that NATS loses are not made again; run mfup");
    });
    let ended = flack_supervisor::run(paths).await;
    keeping.abort();
    Ok(ended?)
}
