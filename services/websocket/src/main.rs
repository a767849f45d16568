//! The websocket service as a process.

use std::process::ExitCode;

use flack_common::{config, process, telemetry};
use flack_websocket::{SERVICE, build, config::Config, definition};

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init(SERVICE);
    let config: Config = config::parse_or_exit();
    process::run(
        definition(),
        &config.process.clone(),
        Some(&config.registry.clone()),
        |background, registry| async { build(config, background, registry.expect("it was asked for")).await },
    )
    .await
}
