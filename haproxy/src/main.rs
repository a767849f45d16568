//! `flack-haproxy-agent`: reads its configuration, then follows the registry until a signal ends it. HAProxy keeps
//! running.

use std::{env, path::Path, process::ExitCode};

use flack_common::{config::parse_or_exit, process::Background, registry::Registry, telemetry};
use flack_haproxy::{agent::Agent, config::Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init("agent");
    let config: Config = parse_or_exit();
    // Socket paths are relative to this folder, because a socket path has at most 107 bytes.
    if let Err(error) = env::set_current_dir(&config.dir) {
        error!(dir = %config.dir.display(), %error, "HAPROXY_DIR cannot be used; create the folder");
        return ExitCode::FAILURE;
    }
    let background = Background::default();
    let registry = Registry::connect_lazily(&config.registry, &background);
    let agent = Agent::new(registry, config, Path::new(".").to_owned());
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM can be installed");
    tokio::select! {
        () = agent.run(&background) => {}
        _ = terminate.recv() => info!("stopped by a signal; HAProxy keeps running"),
        _ = tokio::signal::ctrl_c() => info!("stopped by a signal; HAProxy keeps running"),
    }
    ExitCode::SUCCESS
}
