//! The order of things between a bound socket and the end.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, middleware};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    App, Background, Readiness, VERSION,
    connections::{BoundedListener, CONNECTIONS_MAX},
    edge::{self, Edge},
    probes::{self, Probes},
};
use crate::registry::{Registration, Registry, ServiceDefinition};

/// As long as a request may take: whoever was let in is answered.
const FINISH_TIMEOUT: Duration = Duration::from_secs(edge::REQUEST_SECONDS_MAX);
/// For tasks to put down what they hold.
const TASKS_TIMEOUT: Duration = Duration::from_secs(3);
const READY_PAUSE: Duration = Duration::from_millis(100);
/// How often an instance that does not become ready says why.
const NOT_READY_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Who this process is to others.
#[derive(Debug, Clone)]
pub struct Identity {
    pub service: ServiceDefinition,
    pub instance: String,
    /// Host that others reach it at, when it is not the one it listens on.
    pub advertise: Option<String>,
}

/// Everything of `run` but the configuration and the signals: tests hand in both.
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
        outcome = build(background.clone()) => outcome?,
        // Nobody has been let in yet: there is nothing to finish.
        () = shutdown.cancelled() => return Ok(()),
    };
    let readiness = app.readiness.clone();
    let edge = Edge::new(&identity.instance)?;
    let router = router(app, &identity, &background, &shutdown, &edge);

    // Connections wait in the socket's queue up to here; from now on they are answered.
    let closing = CancellationToken::new();
    let listener = BoundedListener::new(listener, CONNECTIONS_MAX);
    let server = axum::serve(listener, router).with_graceful_shutdown(closing.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());

    let registration = tokio::select! {
        registration = become_known(registry, &identity, address, &readiness) => registration,
        () = shutdown.cancelled() => None,
    };
    shutdown.cancelled().await;

    leave(registration).await;
    background.stop();
    closing.cancel();
    let server = finish(server, &edge, &background).await;
    server.context("the server ended with an error")
}

fn router(
    app: App,
    identity: &Identity,
    background: &Background,
    shutdown: &CancellationToken,
    edge: &Arc<Edge>,
) -> Router {
    let probes = Probes {
        service: identity.service.name.clone(),
        instance: identity.instance.clone(),
        readiness: app.readiness,
        background: background.clone(),
        shutdown: shutdown.clone(),
    };
    app.router
        .merge(probes::router(probes))
        .layer(middleware::from_fn_with_state(Arc::clone(edge), edge::pass))
}

/// Registered means that requests come: not before we are ready.
async fn become_known(
    registry: Option<Registry>,
    identity: &Identity,
    address: SocketAddr,
    readiness: &Readiness,
) -> Option<Registration> {
    let mut last_said: Option<Instant> = None;
    while let Some((check, error)) = readiness.failing().await {
        if last_said.is_none_or(|said| said.elapsed() >= NOT_READY_LOG_INTERVAL) {
            warn!(check, error, "not ready yet");
            last_said = Some(Instant::now());
        }
        sleep(READY_PAUSE).await;
    }
    info!("ready");
    let registry = registry?;
    let address = match &identity.advertise {
        // A literal IPv6 host is in brackets already.
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    };
    Some(registry.register(&identity.service, &identity.instance, &address, VERSION).await)
}

/// Takes us out of the registry, and waits until the balancer has let go.
async fn leave(registration: Option<Registration>) {
    if let Some(registration) = registration {
        let started = Instant::now();
        let outcome = registration.deregister().await;
        info!(?outcome, ms = started.elapsed().as_millis(), "left the registry");
    }
}

/// Lets requests and tasks come to their end, and says what was cut off.
async fn finish(
    mut server: tokio::task::JoinHandle<std::io::Result<()>>,
    edge: &Edge,
    background: &Background,
) -> std::io::Result<()> {
    let result = if let Ok(joined) = timeout(FINISH_TIMEOUT, &mut server).await {
        joined.unwrap_or_else(|problem| Err(std::io::Error::other(problem)))
    } else {
        warn!(requests = edge.in_flight(), "cut off: requests that took too long to finish");
        server.abort();
        Ok(())
    };
    background.drain();
    if timeout(TASKS_TIMEOUT, background.ended()).await.is_err() {
        let (tasks, count) = (background.names_of_running().join(", "), background.count());
        warn!(tasks, count, "cut off: tasks and connections that did not end when told to stop");
    }
    result
}
