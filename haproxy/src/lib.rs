//! The balancer's agent: keeps HAProxy equal to the registry.
//!
//! Owns the configuration of HAProxy, its maps, its servers, and the keys below `/flack/balancer/`. Leaves to others:
//! routes and splits (`mf` writes them), the health of instances (HAProxy's checks), and every request (HAProxy alone:
//! requests do not need a running agent).
//!
//! Reading order: `last_known` (the last known state of the registry), `desired` and `maps` (the desired state),
//! `servers` (their names), `splits` (which requests get another version), `actual` (HAProxy's state), `plan` (the
//! differences, a pure function), `apply` (one difference as commands), `agent` (the loop). Then `hosts`, `errors`,
//! `render` and `files` (what the next start of HAProxy reads), `admin_socket` and `master_socket`, and `acknowledge`
//! (the keys that confirm to instances that they receive requests).

pub mod config;
pub mod hosts;
pub mod last_known;
pub mod maps;
pub mod actual;
pub mod servers;
pub mod splits;
pub mod desired;
pub mod plan;
pub mod apply;
pub mod agent;
pub mod errors;
pub mod render;
pub mod files;
pub mod admin_socket;
pub mod master_socket;
pub mod acknowledge;

use std::{env, path::Path, process::ExitCode};

use flack_common::{config::parse_or_exit, process::Background, registry::Registry, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{agent::Agent, config::Config};

pub use servers::ServerName;

/// Runs the agent as a process: reads its configuration, then follows the registry until a signal ends it. HAProxy
/// keeps running.
pub async fn main() -> ExitCode {
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
