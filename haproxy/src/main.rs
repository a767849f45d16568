//! The balancer's agent as a process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flack_haproxy::main().await
}
