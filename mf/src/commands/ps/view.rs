//! Collects the state of all processes from the supervisor, the registry, the balancer and health checks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_catalogue::{MONOLITH, SERVICES, Service};
use flack_handover::Entry;
use flack_supervisor::ProcessStatus;
use flack_supervisor::process::memory_kib;
use serde::Serialize;
use tokio::net::TcpStream;

use super::metrics::{Balancer, Metrics};
use crate::failure::Result;
use crate::infra::{etcd, nats};
use crate::probe;
use crate::registry::{Instance, Route, Snapshot};
use crate::runtime::Runtime;
use crate::stack::{Stack, number};

const POSTGRES_TIMEOUT: Duration = Duration::from_secs(2);
const NOT_ANSWERING: &str = "not answering";

#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) home: String,
    pub(super) url: String,
    pub(super) stage: String,
    pub(super) memory_mib: u64,
    pub(super) processes: Vec<Row>,
    /// Services without an instance, although the stage has them.
    pub(super) without_instance: Vec<&'static str>,
    pub(super) routes: BTreeMap<String, Route>,
    pub(super) authority: BTreeMap<String, Entry>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) state: String,
    /// Whether the supervisor did not start it: it is in the registry only.
    pub(super) by_hand: bool,
    pub(super) pid: Option<i32>,
    pub(super) address: Option<String>,
    /// Of the registry; while the instance is not registered, the version that it was started with.
    pub(super) version: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) weight: Option<u16>,
    pub(super) health: String,
    pub(super) registry: bool,
    pub(super) balancer: Option<String>,
    /// Requests of the last second.
    pub(super) requests_per_second: Option<u64>,
    /// 99 % of the requests since the start took at most this time.
    pub(super) p99_seconds: Option<f64>,
    /// Open websockets.
    pub(super) sockets: Option<u64>,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) uptime_seconds: Option<i64>,
    pub(super) restarts: u32,
    pub(super) last_end: Option<String>,
    pub(super) memory_mib: Option<u64>,
    #[serde(skip)]
    pub(super) metrics: Metrics,
}

pub(super) async fn collect(stack: &Stack, runtime: &Runtime) -> Result<View> {
    let mut problems = Vec::new();
    let processes = runtime.list().await?;
    let registry = async { stack.registry().await?.snapshot().await }.await;
    let mut registry = registry.unwrap_or_else(|failure| {
        problems.push(failure.message);
        Snapshot::default()
    });
    for instance in registry.instances.values_mut() {
        instance.address = runtime.address(&instance.address);
    }
    let csv = probe::get(&stack.ports.stats_address(), "/stats;csv").await;
    let balancer = Balancer::parse(&csv.map(|response| response.body).unwrap_or_default());
    let by_hand = registry.instances.iter().filter(|(name, _)| processes.iter().all(|process| process.name != **name));
    let by_hand = futures::future::join_all(by_hand.map(|(name, instance)| row_by_hand(name, instance, &balancer)));
    let rows = processes.iter().map(|process| row(process, stack, &registry, &balancer));
    let (mut rows, by_hand) = futures::future::join(futures::future::join_all(rows), by_hand).await;
    rows.extend(by_hand);
    rows.sort_by_key(|row| (order(&row.service), number(&row.name)));
    let has_no_row = |service: &&Service| {
        let is_of_stack = service.name == MONOLITH || stack.settings.instances.contains(service);
        is_of_stack && rows.iter().all(|row| row.service != service.name)
    };
    let without_instance = SERVICES.iter().filter(has_no_row).map(|service| service.name).collect();
    Ok(View {
        home: stack.home.path().display().to_string(),
        url: stack.url(),
        stage: stack.settings.stage.to_string(),
        memory_mib: rows.iter().filter_map(|row| row.memory_mib).sum(),
        processes: rows,
        without_instance,
        routes: registry.routes,
        authority: registry.authority,
        problems,
    })
}

async fn row(process: &ProcessStatus, stack: &Stack, registry: &Snapshot, balancer: &Balancer) -> Row {
    let ports = &stack.ports;
    let instance = registry.instances.get(&process.name);
    // In containers, each owner has its own PostgreSQL: `postgres-users`.
    let database = process.name.strip_prefix("postgres-").unwrap_or("postgres");
    let infrastructure = match process.group.as_str() {
        "postgres" => Some(ports.postgres_address(database)),
        "etcd" => Some(ports.etcd_address()),
        "nats" => Some(ports.nats_address()),
        "haproxy" => Some(ports.public_address()),
        _ => None,
    };
    let address = instance.map(|instance| instance.address.clone()).or(infrastructure);
    let health = match (process.pid, process.group.as_str(), instance) {
        (None, ..) => "down",
        (_, "postgres", _) => postgres_health(&ports.postgres_address(database)).await,
        (_, "etcd", _) if etcd::ready(&stack.home, ports).await.is_ok() => "ready",
        (_, "nats", _) if nats::ready(ports, &stack.secrets).await => "ready",
        (_, "etcd" | "nats", _) => NOT_ANSWERING,
        (_, "haproxy", _) => answers(&ports.stats_address(), "/metrics").await,
        (_, _, Some(instance)) => health(&instance.address).await,
        _ => "-",
    };
    let metrics = match instance {
        Some(instance) => metrics(&instance.address).await,
        None => Metrics::default(),
    };
    // The metric appears with the first connection.
    let holds_connections = Service::find(&process.group).is_some_and(|service| service.holds_connections);
    let no_sockets = (holds_connections && instance.is_some()).then_some(0);
    let server = balancer.servers.get(&process.name);
    let is_balancer = process.group == "haproxy";
    Row {
        health: health.to_owned(),
        registry: instance.is_some(),
        balancer: server.map(|server| &server.status).or_else(|| registry.balancer.get(&process.name)).cloned(),
        by_hand: false,
        requests_per_second: if is_balancer {
            balancer.requests_per_second
        } else {
            server.map(|server| server.requests_per_second)
        },
        p99_seconds: metrics.p99_seconds_since(None),
        sockets: metrics.sockets.or(no_sockets),
        metrics,
        version: instance.map(|instance| instance.version.clone()).or_else(|| process.version.clone()),
        commit: instance.and_then(|instance| instance.commit.clone()),
        weight: instance.and_then(|instance| instance.weight),
        address,
        state: process.state.to_string(),
        memory_mib: process.pid.and_then(memory_kib).map(|kib| kib.div_ceil(1024)),
        uptime_seconds: Some((Utc::now() - process.started).num_seconds()),
        name: process.name.clone(),
        service: process.group.clone(),
        pid: process.pid,
        started: Some(process.started),
        restarts: process.restarts,
        last_end: process.last_end.clone(),
    }
}

/// Returns the row of an instance that the supervisor did not start, for example in a debugger (see mfenv).
async fn row_by_hand(name: &str, instance: &Instance, balancer: &Balancer) -> Row {
    let (health, metrics) = futures::future::join(health(&instance.address), metrics(&instance.address)).await;
    let server = balancer.servers.get(name);
    Row {
        name: name.to_owned(),
        service: instance.service.clone(),
        state: "running".to_owned(),
        by_hand: true,
        pid: None,
        address: Some(instance.address.clone()),
        version: Some(instance.version.clone()),
        commit: instance.commit.clone(),
        weight: instance.weight,
        health: health.to_owned(),
        registry: true,
        balancer: server.map(|server| server.status.clone()),
        requests_per_second: server.map(|server| server.requests_per_second),
        p99_seconds: metrics.p99_seconds_since(None),
        sockets: metrics.sockets,
        metrics,
        started: instance.started,
        uptime_seconds: instance.started.map(|started| (Utc::now() - started).num_seconds()),
        restarts: 0,
        last_end: None,
        memory_mib: None,
    }
}

async fn metrics(address: &str) -> Metrics {
    let response = probe::get(address, "/metrics").await;
    response.map(|response| Metrics::parse(&response.body)).unwrap_or_default()
}

/// Returns the result of an instance's health checks.
async fn health(address: &str) -> &'static str {
    match (probe::is_ok(address, "/health").await, probe::is_ok(address, "/ready").await) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => NOT_ANSWERING,
    }
}

async fn answers(address: &str, path: &str) -> &'static str {
    if probe::is_ok(address, path).await { "ready" } else { NOT_ANSWERING }
}

async fn postgres_health(address: &str) -> &'static str {
    let connected = tokio::time::timeout(POSTGRES_TIMEOUT, TcpStream::connect(address)).await;
    if matches!(connected, Ok(Ok(_))) { "accepting" } else { NOT_ANSWERING }
}

/// Returns the position of a service in the list, which is in start order.
fn order(service: &str) -> usize {
    ["postgres", "etcd", "nats", "streams", "agent", "haproxy"]
        .into_iter()
        .chain(SERVICES.iter().map(|service| service.name))
        .position(|known| known == service)
        .unwrap_or(usize::MAX)
}
