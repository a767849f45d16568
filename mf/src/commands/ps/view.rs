//! Collects the state of all processes from the supervisor, the registry, the balancer and health checks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_catalogue::SERVICES;
use flack_supervisor::process::memory_kib;
use flack_supervisor::{Client, ProcessStatus};
use serde::Serialize;
use tokio::net::TcpStream;

use crate::failure::{Failure, Result};
use crate::infra::{etcd, nats};
use crate::ports::Ports;
use crate::probe;
use crate::registry::{Authority, Route, Snapshot};
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
    pub(super) routes: BTreeMap<String, Route>,
    pub(super) authority: BTreeMap<String, Authority>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) state: String,
    pub(super) pid: Option<i32>,
    pub(super) address: Option<String>,
    /// Of the registry; while the instance is not registered, the version that it was started with.
    pub(super) version: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) weight: Option<u16>,
    pub(super) health: String,
    pub(super) registry: bool,
    pub(super) balancer: Option<String>,
    pub(super) started: DateTime<Utc>,
    pub(super) uptime_seconds: i64,
    pub(super) restarts: u32,
    pub(super) last_end: Option<String>,
    pub(super) memory_mib: Option<u64>,
}

pub(super) async fn collect(stack: &Stack, client: &Client) -> Result<View> {
    let mut problems = Vec::new();
    let processes = client.list().await?;
    let registry = async { Ok(stack.registry().await?.snapshot().await?) }.await;
    let registry = registry.unwrap_or_else(|failure: Failure| {
        problems.push(failure.message);
        Snapshot::default()
    });
    let balancer = balancer(&stack.ports).await;
    let rows = processes.into_iter().map(|process| row(process, stack, &registry, &balancer));
    let mut rows = futures::future::join_all(rows).await;
    rows.sort_by_key(|row| (order(&row.service), number(&row.name)));
    Ok(View {
        home: stack.home.path().display().to_string(),
        url: stack.url(),
        stage: stack.settings.stage.to_string(),
        memory_mib: rows.iter().filter_map(|row| row.memory_mib).sum(),
        processes: rows,
        routes: registry.routes,
        authority: registry.authority,
        problems,
    })
}

async fn row(process: ProcessStatus, stack: &Stack, registry: &Snapshot, balancer: &BTreeMap<String, String>) -> Row {
    let ports = &stack.ports;
    let instance = registry.instances.get(&process.name);
    let port = match process.group.as_str() {
        "postgres" => Some(ports.postgres),
        "etcd" => Some(ports.etcd),
        "nats" => Some(ports.nats),
        "haproxy" => Some(ports.public),
        _ => None,
    };
    let address = instance.map(|instance| instance.address.clone()).or_else(|| port.map(local));
    let health = match (process.pid, process.group.as_str(), instance) {
        (None, ..) => "down",
        (_, "postgres", _) => postgres_health(ports).await,
        (_, "etcd", _) if etcd::ready(&stack.home, ports).await.is_ok() => "ready",
        (_, "nats", _) if nats::ready(ports, &stack.secrets).await => "ready",
        (_, "etcd" | "nats", _) => NOT_ANSWERING,
        (_, "haproxy", _) => answers(ports.stats, "/metrics").await,
        (_, _, Some(instance)) => health(&instance.address).await,
        _ => "-",
    };
    Row {
        health: health.to_owned(),
        registry: instance.is_some(),
        balancer: balancer.get(&process.name).or_else(|| registry.balancer.get(&process.name)).cloned(),
        version: instance.map(|instance| instance.version.clone()).or(process.version),
        commit: instance.and_then(|instance| instance.commit.clone()),
        weight: instance.and_then(|instance| instance.weight),
        address,
        state: process.state.to_string(),
        memory_mib: process.pid.and_then(memory_kib).map(|kib| kib.div_ceil(1024)),
        uptime_seconds: (Utc::now() - process.started).num_seconds(),
        name: process.name,
        service: process.group,
        pid: process.pid,
        started: process.started,
        restarts: process.restarts,
        last_end: process.last_end,
    }
}

/// Returns the result of an instance's health checks.
async fn health(address: &str) -> &'static str {
    match (probe::is_ok(address, "/health").await, probe::is_ok(address, "/ready").await) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => NOT_ANSWERING,
    }
}

async fn answers(port: u16, path: &str) -> &'static str {
    if probe::is_ok(&local(port), path).await { "ready" } else { NOT_ANSWERING }
}

async fn postgres_health(ports: &Ports) -> &'static str {
    let connect = TcpStream::connect(local(ports.postgres));
    let connected = tokio::time::timeout(POSTGRES_TIMEOUT, connect).await;
    if matches!(connected, Ok(Ok(_))) { "accepting" } else { NOT_ANSWERING }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Returns the state of each server from HAProxy's statistics (CSV).
async fn balancer(ports: &Ports) -> BTreeMap<String, String> {
    let Some(response) = probe::get(&local(ports.stats), "/stats;csv").await else { return BTreeMap::new() };
    let mut lines = response.body.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let Some((name, status)) = column(&header, "svname").zip(column(&header, "status")) else {
        return BTreeMap::new();
    };
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            Some(((*fields.get(name)?).to_owned(), (*fields.get(status)?).to_owned()))
        })
        .filter(|(name, _)| !matches!(name.as_str(), "FRONTEND" | "BACKEND"))
        .collect()
}

fn column(header: &[&str], name: &str) -> Option<usize> {
    header.iter().position(|column| *column == name)
}

/// Returns the position of a service in the list, which is in start order.
fn order(service: &str) -> usize {
    ["postgres", "etcd", "nats", "agent", "haproxy"]
        .into_iter()
        .chain(SERVICES.iter().map(|service| service.name))
        .position(|known| known == service)
        .unwrap_or(usize::MAX)
}
