//! The lifecycle of a process, from a bound socket to its end.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, middleware::from_fn_with_state};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    App, Background, Readiness, VERSION,
    connections::{BoundedListener, CONNECTIONS_MAX},
    middleware::{self, REQUEST_SECONDS_MAX, Requests},
    probes::{self, Probes},
};
use crate::registry::{InstanceEntry, Registration, Registry, ServiceDefinition, WEIGHT_DEFAULT};

/// As long as one request may take, so that every accepted request is answered.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(REQUEST_SECONDS_MAX);
const TASKS_TIMEOUT: Duration = Duration::from_secs(3);
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(100);
const NOT_READY_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What `/health` and the registry show of this process.
#[derive(Debug, Clone)]
pub struct Identity {
    pub service: ServiceDefinition,
    pub instance: String,
    /// The host at which other processes reach this one, if it is not the host that it listens on.
    pub advertise: Option<String>,
    pub version: String,
    pub commit: Option<String>,
    pub weight: u16,
}

impl Identity {
    /// Returns an identity with the version of the package, the default weight, and nothing else.
    pub fn new(service: ServiceDefinition, instance: impl Into<String>) -> Self {
        Self {
            service,
            instance: instance.into(),
            advertise: None,
            version: VERSION.to_owned(),
            commit: None,
            weight: WEIGHT_DEFAULT,
        }
    }
}

/// Builds the app, serves it, and drains it after `shutdown`. `run` calls it; tests call it with their own listener.
pub async fn serve<F>(
    listener: TcpListener,
    shutdown: CancellationToken,
    identity: Identity,
    build: impl FnOnce(Background) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<(App, Option<Registry>)>>,
{
    let address = listener.local_addr().context("the socket has no address")?;
    let background = Background::default();
    let (app, registry) = tokio::select! {
        parts = build(background.clone()) => parts?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let readiness = app.readiness.clone();
    let requests = Requests::new(&identity.service.name, &identity.instance, &identity.version)?;
    let router = router(app, &identity, &background, &shutdown, &requests);

    // Connections that have arrived before this line wait in the socket's queue.
    let closing = CancellationToken::new();
    let listener = BoundedListener::new(listener, CONNECTIONS_MAX);
    let server = axum::serve(listener, router).with_graceful_shutdown(closing.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());

    let registration = tokio::select! {
        registration = register_when_ready(registry, &identity, address, &readiness) => registration,
        () = shutdown.cancelled() => None,
    };
    shutdown.cancelled().await;

    deregister(registration).await;
    background.stop();
    closing.cancel();
    drain(server, &requests, &background).await.context("the server ended with an error")
}

fn router(
    app: App,
    identity: &Identity,
    background: &Background,
    shutdown: &CancellationToken,
    requests: &Arc<Requests>,
) -> Router {
    let probes = Probes {
        service: identity.service.name.clone(),
        instance: identity.instance.clone(),
        version: identity.version.clone(),
        commit: identity.commit.clone(),
        readiness: app.readiness,
        background: background.clone(),
        shutdown: shutdown.clone(),
    };
    let middleware = from_fn_with_state(Arc::clone(requests), middleware::handle);
    app.router.merge(probes::router(probes)).layer(middleware)
}

/// The balancer sends requests to every registered instance, so registration waits until the instance is ready.
async fn register_when_ready(
    registry: Option<Registry>,
    identity: &Identity,
    address: SocketAddr,
    readiness: &Readiness,
) -> Option<Registration> {
    let mut logged_at: Option<Instant> = None;
    while let Some((check, error)) = readiness.failing().await {
        if logged_at.is_none_or(|at| at.elapsed() >= NOT_READY_LOG_INTERVAL) {
            warn!(check, error, "not ready yet");
            logged_at = Some(Instant::now());
        }
        sleep(READY_CHECK_INTERVAL).await;
    }
    info!("ready");
    let registry = registry?;
    let address = match &identity.advertise {
        // A literal IPv6 host is in brackets already.
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    };
    let entry = InstanceEntry {
        commit: identity.commit.clone(),
        weight: identity.weight,
        ..InstanceEntry::new(address, &identity.version)
    };
    Some(registry.register(&identity.service, &identity.instance, entry).await)
}

/// Marks the instance as draining, and waits until the balancer sends it no more requests.
async fn deregister(registration: Option<Registration>) {
    if let Some(registration) = registration {
        let started = Instant::now();
        let outcome = registration.deregister().await;
        info!(?outcome, ms = started.elapsed().as_millis(), "deregistered");
    }
}

/// Waits for requests, then for background tasks, each within its timeout; logs what was aborted.
async fn drain(mut server: JoinHandle<io::Result<()>>, requests: &Requests, background: &Background) -> io::Result<()> {
    let result = if let Ok(joined) = timeout(REQUESTS_TIMEOUT, &mut server).await {
        joined.unwrap_or_else(|error| Err(io::Error::other(error)))
    } else {
        warn!(requests = requests.in_flight(), "aborted requests that did not finish in time");
        server.abort();
        Ok(())
    };
    background.drain();
    if timeout(TASKS_TIMEOUT, background.ended()).await.is_err() {
        let (tasks, count) = (background.names_of_running().join(", "), background.count());
        warn!(tasks, count, "aborted background tasks and connections that did not end in time");
    }
    result
}
