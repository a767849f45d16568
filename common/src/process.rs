//! The life of a process: bind, build, become ready, register, serve, leave, finish, stop.
//!
//! Nobody is sent here before we can serve, and nobody is sent here any more when we stop: that is why the
//! order is what it is. What a process serves is handed in; this knows only how to live.
//!
//! Reading order: `life` (the order of things), `connections` (how many), `edge` (what every request passes), `body` (read first),
//! `problems` (answers that no handler made), `probes` (`/health`, `/ready`, `/metrics`), `readiness`,
//! `background` (tasks beside the requests), `signals`.

mod life;
mod connections;
mod edge;
mod body;
mod problems;
mod probes;
mod readiness;
mod background;
mod signals;

use std::{fmt, future::Future, io, process::ExitCode};

use anyhow::{Context as _, bail};
use axum::Router;
use conf::Conf;
use flack_catalogue::Service;
use tokio::net::TcpListener;
use tracing::{error, info};

use crate::{
    config::{EXIT_CODE_CONFIGURATION, ProcessConfig, RegistryConfig, parse_or_exit},
    registry::{Registry, ServiceDefinition},
    telemetry,
};

pub use background::{Background, TaskResult};
pub use edge::REQUEST_SECONDS_MAX;
pub use flack_api::BODY_BYTES_MAX;
pub use life::{Identity, serve};
pub use readiness::Readiness;

/// The version that `/health` and the registry show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `EX_UNAVAILABLE` of sysexits.h: something that we need is not there; starting again later may help.
const EXIT_CODE_UNAVAILABLE: u8 = 69;

/// What a process serves, and how one knows that it can.
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
/// `settings` returns the parts of the configuration that [`run`] needs. `build` connects, migrates, starts background
/// tasks and returns the router.
pub async fn main<C: Conf, F>(
    service: &'static Service,
    settings: impl FnOnce(&C) -> (&ProcessConfig, &RegistryConfig),
    build: impl FnOnce(C, Background, Registry) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<App>>,
{
    telemetry::init(service.name);
    let config: C = parse_or_exit();
    let (process, registry) = settings(&config);
    let (process, registry) = (process.clone(), registry.clone());
    run(service, &process, Some(&registry), |background, registry| {
        build(config, background, registry.expect("its configuration is present"))
    })
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
    if registry.is_some() && process.listen.ip().is_unspecified() && process.advertise.is_none() {
        error!(
            "FLACK_LISTEN is {}, which other hosts cannot reach: set FLACK_ADVERTISE to the name of this host",
            process.listen
        );
        return ExitCode::from(EXIT_CODE_CONFIGURATION);
    }
    let result = async {
        let shutdown = signals::listen()?;
        let listener = bind(process).await?;
        let advertise = process.advertise.clone();
        let identity = Identity { service: ServiceDefinition::of(service), instance, advertise };
        let build = async |background: Background| {
            let registry = match registry {
                Some(config) => Some(Registry::connect(config, &background).await?),
                None => None,
            };
            Ok((build(background, registry.clone()).await?, registry))
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

/// First of all, so that a taken port is known before a database is touched.
async fn bind(process: &ProcessConfig) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(process.listen).await {
        Err(problem) if problem.kind() == io::ErrorKind::AddrInUse => {
            bail!(
                "{} is taken by another process; stop it, or set FLACK_LISTEN to another port",
                process.listen
            )
        }
        result => result.with_context(|| format!("cannot listen on {}", process.listen))?,
    };
    let address = listener.local_addr().context("the socket has no address")?;
    info!(address = %address, version = VERSION, "listening");
    Ok(listener)
}
