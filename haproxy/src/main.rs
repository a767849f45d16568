//! `flack-haproxy-agent`: reads its configuration, then follows the registry until it is told to stop.
//! HAProxy goes on without it.

use std::{env, path::Path, process::ExitCode};

use flack_common::{config::parse_or_exit, process::Background, registry::Registry, telemetry};
use flack_haproxy::{agent::Agent, config::Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init("agent");
    let config: Config = parse_or_exit();
    // The paths of its sockets are short because both sides work in this folder.
    if let Err(error) = env::set_current_dir(&config.dir) {
        error!(dir = %config.dir.display(), %error, "HAPROXY_DIR cannot be used; create the folder");
        return ExitCode::FAILURE;
    }
    let background = Background::default();
    let registry = Registry::connect_lazily(&config.registry, &background);
    let agent = Agent::new(registry, config.settings(), Path::new(".").to_owned());
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    tokio::select! {
        () = agent.run() => {}
        _ = terminate.recv() => info!("told to stop; HAProxy goes on"),
        _ = tokio::signal::ctrl_c() => info!("told to stop; HAProxy goes on"),
    }
    ExitCode::SUCCESS
}
