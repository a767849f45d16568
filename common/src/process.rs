//! The lifecycle of a process: bind, build, become ready, register, serve, deregister, drain, stop.
//!
//! The order guarantees that the balancer sends requests only to an instance that can serve them. The routes come from
//! the caller ([`App`]).
//!
//! Reading order: `lifecycle`, `connections` (their limit), `middleware` (of every request), `body`, `problems` (error
//! answers that no handler made), `probes` (`/health`, `/ready`, `/metrics`), `readiness`, `background`, `signals`,
//! `faults` (for tests and workshops).

mod lifecycle;
mod connections;
mod middleware;
mod body;
mod problems;
mod probes;
mod readiness;
mod background;
mod signals;
mod faults;

use std::{fmt, future::Future, io, process::ExitCode};

use anyhow::{Context as _, bail};
use axum::Router;
use conf::Conf;
use flack_catalogue::Service;
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use crate::{
    config::{EXIT_CODE_CONFIGURATION, ProcessConfig, RegistryConfig, ServiceConfig, parse_or_exit},
    registry::{Registry, ServiceDefinition},
    telemetry,
};

pub use background::{Background, TaskResult};
pub use connections::{BoundedListener, CONNECTIONS_MAX, Connection};
pub use faults::Faults;
pub use flack_api::BODY_BYTES_MAX;
pub use lifecycle::{Identity, serve};
pub use middleware::REQUEST_SECONDS_MAX;
pub use readiness::Readiness;

/// The version of the package, which `/health` and the registry show unless `FLACK_VERSION` is set.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `EX_UNAVAILABLE` of sysexits.h: a dependency is missing; a later start may succeed.
const EXIT_CODE_UNAVAILABLE: u8 = 69;

/// The routes of a process, and the checks of its readiness.
pub struct App {
    pub router: Router,
    pub readiness: Readiness,
}

impl fmt::Debug for App {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("App").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// The `main` of a service: reads the configuration `C`, then runs until a signal or an error ends the process.
///
/// `common` returns the [`ServiceConfig`] in `C`. `build` connects, migrates, starts background tasks and
/// returns the router.
pub async fn main<C: Conf, F>(
    service: &'static Service,
    common: impl FnOnce(&C) -> &ServiceConfig,
    build: impl FnOnce(C, Background, Registry) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<App>>,
{
    telemetry::init(service.name);
    let config: C = parse_or_exit();
    let ServiceConfig { process, registry, .. } = common(&config).clone();
    // In a box, because the future is large.
    Box::pin(run(service, &process, Some(&registry), |background, registry| {
        build(config, background, registry.expect("its configuration is present"))
    }))
    .await
}

/// Runs until a signal or an error ends the process. `build` gets the registry when it is configured.
pub async fn run<F>(
    service: &'static Service,
    process: &ProcessConfig,
    registry: Option<&RegistryConfig>,
    build: impl FnOnce(Background, Option<Registry>) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<App>>,
{
    let instance = process.instance_name(service.name);
    telemetry::set_instance(&instance);
    let advertise = match registry.map(|_| process.advertised_host()).transpose() {
        Ok(advertise) => advertise.flatten(),
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(EXIT_CODE_CONFIGURATION);
        }
    };
    let result = async {
        let shutdown = signals::listen()?;
        let listener = bind(process).await?;
        let identity = Identity {
            advertise,
            version: process.version().to_owned(),
            commit: process.commit.clone(),
            weight: process.weight,
            ..Identity::new(ServiceDefinition::of(service), instance)
        };
        let faults = process.faults.unwrap_or_default();
        if let Some(faults) = process.faults {
            warn!(%faults, "this process has the faults of FLACK_FAULTS");
        }
        let build = async |background: Background| {
            let registry = match registry {
                Some(config) => Some(Registry::connect(config, &background).await?),
                None => None,
            };
            faults.fail_migration()?;
            let app = build(background, registry.clone()).await?;
            Ok((faults.inject(app), registry))
        };
        serve(listener, shutdown, identity, build).await
    };
    match result.await {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(error = format!("{error:#}"), "stopped because of an error");
            ExitCode::from(EXIT_CODE_UNAVAILABLE)
        }
    }
}

/// Binds first, so that a port in use is reported before a connection to the database.
async fn bind(process: &ProcessConfig) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(process.listen).await {
        Err(problem) if problem.kind() == io::ErrorKind::AddrInUse => {
            bail!("{} is taken by another process; stop it, or set FLACK_LISTEN to another port", process.listen)
        }
        result => result.with_context(|| format!("cannot listen on {}", process.listen))?,
    };
    let address = listener.local_addr().context("the socket has no address")?;
    info!(address = %address, version = process.version(), "listening");
    Ok(listener)
}
