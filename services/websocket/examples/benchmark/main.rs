//! Benchmarks of the service: `bin/mfbench idle-sockets` and `bin/mfbench fan-out`, or
//! `DATABASE_URL=postgres://... cargo run --release -p flack-websocket --example benchmark fan-out`

mod client;
mod process;
mod stack;

mod fan_out;
mod idle_sockets;

use std::process::ExitCode;

use anyhow::bail;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if stack::is_service() {
        return Ok(stack::serve().await);
    }
    match std::env::args().nth(1).as_deref() {
        Some("fan-out") => stack::with_stack(fan_out::measure).await?,
        Some("idle-sockets") => stack::with_stack(idle_sockets::measure).await?,
        _ => bail!("the benchmarks are fan-out and idle-sockets"),
    }
    Ok(ExitCode::SUCCESS)
}
