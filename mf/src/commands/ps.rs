//! `mf ps`: what runs where, as the supervisor, the registry, the balancer and the processes themselves see it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::cli::examples;
use crate::failure::Result;
use crate::home::Home;
use crate::ports::Ports;
use crate::probe;
use crate::process;
use crate::registry::{Authority, Route, Snapshot};
use crate::stack::Stack;
use crate::supervisor::{Client, ProcessStatus, leftovers};

/// Show what runs where: version, health, memory, routes
///
/// `health` is what the process answers itself (/health, /ready); `registry` is whether it is announced there;
/// `balancer` is what HAProxy's own checks say.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfps\n  mfps --json | jq -r '.processes[] | select(.health != \"ready\") | .name'"))]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct View {
    home: String,
    url: String,
    stage: String,
    memory_mib: u64,
    processes: Vec<Row>,
    routes: BTreeMap<String, Route>,
    authority: BTreeMap<String, Authority>,
    /// What could not be asked.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    service: String,
    state: String,
    pid: Option<i32>,
    address: Option<String>,
    version: Option<String>,
    health: String,
    registry: bool,
    balancer: Option<String>,
    started: DateTime<Utc>,
    uptime_seconds: i64,
    restarts: u32,
    last_end: Option<String>,
    memory_mib: Option<u64>,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    let Some(client) = Client::find(&home).await? else {
        return Err(no_stack(&home));
    };
    let stack = Stack::open(&home)?;
    let view = look(&stack, &client).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&view).expect("a view is plain data"));
    } else {
        print(&view);
    }
    Ok(())
}

fn no_stack(home: &Home) -> crate::failure::Failure {
    let left: Vec<String> = if home.exists() {
        leftovers::find(home).into_iter().map(|(name, _)| name).collect()
    } else {
        Vec::new()
    };
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(
            "\nIts supervisor was killed, and these still run: {}. mfdown ends them; mfup ends them and starts anew.",
            left.join(", ")
        )
    };
    crate::failure::Failure::unavailable(format!(
        "the stack in {} does not run. Start it with mfup.{left}",
        home.path().display()
    ))
}

async fn look(stack: &Stack, client: &Client) -> Result<View> {
    let mut problems = Vec::new();
    let processes = client.list().await?;
    let registry = match stack.registry().await {
        Ok(registry) => registry.snapshot().await.map_err(Into::into),
        Err(failure) => Err(failure),
    };
    let registry = registry.unwrap_or_else(|failure: crate::failure::Failure| {
        problems.push(failure.message);
        Snapshot::default()
    });
    let balancer = balancer(&stack.ports).await;
    let rows = processes.into_iter().map(|process| row(process, &stack.ports, &registry, &balancer));
    let mut rows = futures::future::join_all(rows).await;
    rows.sort_by_key(|row| (order(&row.service), crate::stack::number(&row.name)));
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

async fn row(
    process: ProcessStatus,
    ports: &Ports,
    registry: &Snapshot,
    balancer: &BTreeMap<String, String>,
) -> Row {
    let instance = registry.instances.get(&process.name);
    let (address, check) = match process.service.as_str() {
        "postgres" => (Some(ports.postgres), None),
        "etcd" => (Some(ports.etcd), Some((ports.etcd, "/health"))),
        "nats" => (Some(ports.nats), Some((ports.nats_monitor, "/healthz"))),
        "haproxy" => (Some(ports.public), Some((ports.stats, "/metrics"))),
        _ => (None, None),
    };
    let address = instance.map(|instance| instance.address.clone()).or_else(|| address.map(local));
    let health = match (process.pid, check, instance) {
        (None, ..) => "down",
        (_, Some((port, path)), _) => {
            if probe::is_ok(&local(port), path).await {
                "ready"
            } else {
                "not answering"
            }
        }
        (_, None, Some(instance)) => health(&instance.address).await,
        _ => "-",
    };
    let health = if process.service == "postgres" && process.pid.is_some() {
        postgres_health(ports).await
    } else {
        health
    };
    Row {
        health: health.to_owned(),
        registry: instance.is_some(),
        balancer: balancer.get(&process.name).or_else(|| registry.balancer.get(&process.name)).cloned(),
        version: instance.map(|instance| instance.version.clone()),
        address,
        state: process.state.words().to_owned(),
        memory_mib: process.pid.and_then(process::memory_kib).map(|kib| kib.div_ceil(1024)),
        uptime_seconds: (Utc::now() - process.started).num_seconds(),
        name: process.name,
        service: process.service,
        pid: process.pid,
        started: process.started,
        restarts: process.restarts,
        last_end: process.last_end,
    }
}

/// The words of an instance about itself.
async fn health(address: &str) -> &'static str {
    match (probe::is_ok(address, "/health").await, probe::is_ok(address, "/ready").await) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => "not answering",
    }
}

async fn postgres_health(ports: &Ports) -> &'static str {
    let connected = tokio::time::timeout(
        std::time::Duration::from_secs(2),
        tokio::net::TcpStream::connect(local(ports.postgres)),
    )
    .await;
    if matches!(connected, Ok(Ok(_))) { "accepting" } else { "not answering" }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// State of each server by HAProxy's statistics: columns pxname, svname and status of its CSV.
async fn balancer(ports: &Ports) -> BTreeMap<String, String> {
    let Some(answer) = probe::get(&local(ports.stats), "/stats;csv").await else { return BTreeMap::new() };
    let mut lines = answer.body.lines();
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

fn order(service: &str) -> usize {
    [
        "postgres",
        "etcd",
        "nats",
        "agent",
        "haproxy",
        "monolith",
        "ui",
        "users",
        "tokens",
        "messages",
        "websocket",
    ]
    .iter()
    .position(|known| *known == service)
    .unwrap_or(usize::MAX)
}

fn print(view: &View) {
    println!("{}  stage {}  {} MiB  {}\n", view.url, view.stage, view.memory_mib, view.home);
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "NAME", "STATE", "PID", "ADDRESS", "VERSION", "HEALTH", "REGISTRY", "BALANCER", "UPTIME", "RESTARTS",
        "MEMORY",
    ]);
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for row in &view.processes {
        table.add_row([
            row.name.clone(),
            row.state.clone(),
            text(row.pid.map(|pid| pid.to_string())),
            text(row.address.clone()),
            text(row.version.clone()),
            row.health.clone(),
            if row.registry { "yes" } else { "-" }.to_owned(),
            text(row.balancer.clone()),
            uptime(row.uptime_seconds),
            row.restarts.to_string(),
            text(row.memory_mib.map(|mib| format!("{mib} MiB"))),
        ]);
    }
    println!("{table}");
    if !view.routes.is_empty() || !view.authority.is_empty() {
        let routes: Vec<String> = view
            .routes
            .iter()
            .map(|(name, route)| format!("{name} -> {} {}%", route.owner, route.percentage))
            .collect();
        let owners: Vec<String> = view
            .authority
            .iter()
            .map(|(name, owner)| format!("{name}: {} (epoch {})", owner.owner, owner.epoch))
            .collect();
        println!(
            "\nroutes  {}\nowners  {}",
            if routes.is_empty() { "all to the monolith".to_owned() } else { routes.join(", ") },
            owners.join(", ")
        );
    }
    for row in view.processes.iter().filter(|row| row.state != "running") {
        println!(
            "\n{} is {}: it {}. See mflogs {}",
            row.name,
            row.state,
            row.last_end.as_deref().unwrap_or("ended"),
            row.name
        );
    }
    for problem in &view.problems {
        println!("\n{problem}");
    }
}

fn uptime(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_have_two_units_at_most() {
        assert_eq!([5, 65, 3_700, 90_000].map(uptime), ["5s", "1m05s", "1h01m", "1d01h"]);
    }
}
