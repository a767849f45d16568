//! The recommend service as a process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flack_recommend::main().await
}
