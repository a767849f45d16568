//! Measures what users notice of upgrades and of failures, with several instances of each service under load.
//! `mfbench upgrades` builds and starts it.

use std::{
    process::{Child, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use flack_catalogue::{MONOLITH, SERVICES, Service};
use flack_conformance::{
    benchmark,
    client::Client,
    contract::Contract,
    delivery::{Fault, Over, Plan, Progress, Verdict, verify_as},
    load::Load,
    stack::{Operator, Stack, Stage},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime::Builder, task::spawn_blocking, time::sleep};

const VERSIONS: [&str; 2] = ["2", "3"];
const POSTERS: u32 = 10;
/// An upgrade that takes longer is no result.
const UPGRADE_TIME_MAX: Duration = Duration::from_mins(15);
const ETCD_OUTAGE: Duration = Duration::from_mins(1);
/// The time between two failures, which is longer than a restart and a lease.
const FAILURE_INTERVAL: Duration = Duration::from_secs(12);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Measure what users notice of upgrades and failures, with several instances of each service under load
///
/// Starts a stack with the `mf` beside this program, or `FLACK_MF`. Clients read, post messages with an
/// Idempotency-Key, and sign in; none repeats a request. Sockets receive every message, and are compared afterwards.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 nothing failed, 1 a request failed or a message was lost, 64 usage, 70 no result."
)]
struct Arguments {
    /// Measure only these
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Instances of each service; an upgrade needs one more
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=15))]
    instances: u16,
    /// Clients that each have one request at a time
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    sockets: u32,
    /// Messages per second to the sockets, besides those of the clients
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// The load of a scenario goes on until so many requests were sent
    #[arg(long, default_value_t = 0)]
    requests: usize,
    /// `--min-healthy` of the upgrades, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    min_healthy: u64,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scenario {
    /// `mfupgrade roll all`
    Roll,
    /// The same; in the middle etcd is killed, then the terminal, and the upgrade is resumed
    RollDisturbed,
    /// kill -9 of one instance of each service
    Kill,
    /// SIGSTOP of one instance of each service, for 8 s
    Stop,
    /// etcd is down for 60 s, and an instance is killed meanwhile
    Etcd,
    /// The agent is killed, then HAProxy is reloaded
    Balancer,
}

#[derive(Debug, Serialize)]
struct Measurement {
    scenario: Scenario,
    seconds: f64,
    requests: usize,
    failed: usize,
    first_failure: Option<String>,
    delivery: Value,
    good: bool,
    /// Of an upgrade: for each instance, besides its drain and `--min-healthy`. With little traffic, most of it is the
    /// wait for the requests that a verdict needs.
    seconds_per_instance: Option<f64>,
    instances: usize,
}

fn main() -> ExitCode {
    benchmark::main(Builder::new_multi_thread(), async |arguments: Arguments| run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<bool> {
    eprintln!("starting the stack, {} instances of each service", arguments.instances);
    let extracted = SERVICES.iter().filter(|service| service.name != MONOLITH);
    // The load uses the parts alone, and an upgrade without traffic holds.
    let count = |service: &Service| if service.has_authority { arguments.instances } else { 0 };
    let instances: Vec<String> = extracted.map(|service| format!("{}={}", service.name, count(service))).collect();
    let stack = Stack::start(Stage::Services, &instances.join(","))?;
    for version in VERSIONS {
        stack.mf_ok(&["build", "--version", version, "--no-build"])?;
    }
    let client = Client::new(&stack.url(), Arc::new(Contract::load()?))?;
    let mut measurements = Vec::new();
    for scenario in Scenario::value_variants() {
        if !arguments.scenarios.is_empty() && !arguments.scenarios.contains(scenario) {
            continue;
        }
        let measurement = measure(&client, &stack, arguments, *scenario).await?;
        if !arguments.json {
            print(&measurement);
        }
        measurements.push(measurement);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measurements)?);
    }
    Ok(measurements.iter().all(|measurement| measurement.failed == 0 && measurement.good))
}

async fn measure(client: &Client, stack: &Stack, arguments: &Arguments, scenario: Scenario) -> Result<Measurement> {
    let services = || SERVICES.iter().filter(|service| service.has_authority).map(|service| service.name);
    let each = u32::try_from(services().count())? + 1;
    let min_healthy = Duration::from_secs(arguments.min_healthy);
    let (time, faults) = match scenario {
        Scenario::Roll | Scenario::RollDisturbed => (UPGRADE_TIME_MAX, vec![]),
        Scenario::Kill => (FAILURE_INTERVAL * each, services().map(|name| Fault::Kill(name.to_owned())).collect()),
        Scenario::Stop => {
            (FAILURE_INTERVAL * 2 * each, services().map(|name| Fault::Freeze(name.to_owned())).collect())
        }
        Scenario::Etcd => (ETCD_OUTAGE + FAILURE_INTERVAL * 2, vec![]),
        Scenario::Balancer => (FAILURE_INTERVAL * 4, vec![]),
    };
    let plan = Plan {
        posters: POSTERS,
        sockets: arguments.sockets,
        rate: f64::from(arguments.rate),
        time,
        over: Over::Both,
        both_sides: false,
        dropping: 0,
        faults,
    };
    let author = client.person("busy").await?;
    let (load, began) = (Load::mixed(client, arguments.clients.into(), &author, Duration::ZERO), Instant::now());
    load.warmed_up().await?;
    let (operator, progress) = (stack.operator(), Progress::default());
    let disturbing = async {
        let upgrade = disturb(stack, scenario, arguments.min_healthy).await?;
        wait_for_requests(&load, arguments.requests).await?;
        // An upgrade ends when it ends; the time of the other scenarios is that of their faults.
        if matches!(scenario, Scenario::Roll | Scenario::RollDisturbed) {
            progress.end();
        }
        Ok(upgrade)
    };
    let (verdict, upgrade) = tokio::try_join!(verify_as(client, &operator, &plan, "poster", &progress), disturbing)?;
    let (requests, failed) = (load.answered() + load.failed(), load.failed());
    let first_failure = load.end_without_failure().err().map(|error| error.to_string());
    let (seconds_per_instance, instances) = upgrade.map_or((None, 0), |upgrade| {
        #[expect(clippy::cast_precision_loss, reason = "some instances")]
        let count = upgrade.instances as f64;
        let seconds = (upgrade.seconds - upgrade.drain_seconds) / count - min_healthy.as_secs_f64();
        (Some(seconds), upgrade.instances)
    });
    Ok(Measurement {
        scenario,
        seconds: began.elapsed().as_secs_f64(),
        requests,
        failed,
        first_failure,
        delivery: verdict.to_json(),
        good: is_good(&verdict),
        seconds_per_instance,
        instances,
    })
}

fn is_good(verdict: &Verdict) -> bool {
    verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0
}

async fn wait_for_requests(load: &Load, requests: usize) -> Result<()> {
    while load.answered() < requests {
        let before = load.answered();
        load.continues().await.with_context(|| format!("only {before} requests were answered"))?;
    }
    Ok(())
}

/// The times of an upgrade.
struct Upgrade {
    seconds: f64,
    drain_seconds: f64,
    instances: usize,
}

/// Does to the stack what the scenario is about.
async fn disturb(stack: &Stack, scenario: Scenario, min_healthy: u64) -> Result<Option<Upgrade>> {
    let operator = stack.operator();
    let min_healthy = format!("{min_healthy}s");
    let roll = |version| ["upgrade", "roll", "all", "--to", version, "--min-healthy", &min_healthy];
    match scenario {
        Scenario::Roll => {
            let began = Instant::now();
            let output = mf(&operator, &roll(VERSIONS[0])).await?;
            return Upgrade::of(&output, began.elapsed()).map(Some);
        }
        Scenario::RollDisturbed => {
            let mut terminal =
                Terminal(operator.command(&roll(VERSIONS[1]))?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
            wait_until_upgraded(stack, VERSIONS[1], 2).await?;
            mf(&operator, &["kill", "etcd", "--hard"]).await?;
            wait_until_upgraded(stack, VERSIONS[1], 4).await?;
            terminal.kill()?;
            mf(&operator, &["upgrade", "resume"]).await?;
            let ps = stack.ps()?;
            let others = services(&ps).filter(|process| process["version"] != VERSIONS[1]).count();
            ensure!(others == 0, "{others} instances have another version: {ps}");
        }
        Scenario::Kill | Scenario::Stop => {}
        Scenario::Etcd => {
            mf(&operator, &["kill", "etcd", "--hard", "--no-restart"]).await?;
            sleep(ETCD_OUTAGE / 2).await;
            mf(&operator, &["kill", "users", "--hard", "--no-restart"]).await?;
            sleep(ETCD_OUTAGE / 2).await;
            mf(&operator, &["up", "--detach"]).await?;
        }
        Scenario::Balancer => {
            sleep(FAILURE_INTERVAL).await;
            mf(&operator, &["kill", "agent", "--hard"]).await?;
            sleep(FAILURE_INTERVAL).await;
            let ps = stack.ps()?;
            let mut processes = ps["processes"].as_array().context("mf ps lists no processes")?.iter();
            let haproxy = processes.find(|process| process["name"] == "haproxy").context("no HAProxy")?;
            let pid = haproxy["pid"].as_u64().context("HAProxy has no pid")?.to_string();
            let status = std::process::Command::new("kill").args(["-USR2", &pid]).status()?;
            ensure!(status.success(), "HAProxy cannot be reloaded: {status}");
        }
    }
    Ok(None)
}

async fn wait_until_upgraded(stack: &Stack, version: &str, instances: usize) -> Result<()> {
    loop {
        let ps = stack.ps()?;
        if services(&ps).filter(|process| process["version"] == version).count() >= instances {
            return Ok(());
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn services(ps: &Value) -> impl Iterator<Item = &Value> {
    let is_service = |process: &&Value| SERVICES.iter().any(|service| process["service"] == service.name);
    ps["processes"].as_array().into_iter().flatten().filter(is_service)
}

/// Runs `mf` while the load continues. Returns what it printed.
async fn mf(operator: &Operator, arguments: &[&str]) -> Result<String> {
    let (mut command, name) = (operator.command(arguments)?, arguments.join(" "));
    let output = spawn_blocking(move || command.output()).await?.with_context(|| format!("cannot run mf {name}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "mf {name}: {}\n{text}", output.status);
    Ok(text)
}

impl Upgrade {
    /// Reads the steps that mf has printed, such as `users-4       ready with version 2 (0.3 s)`.
    fn of(output: &str, time: Duration) -> Result<Self> {
        let mut upgrade = Self { seconds: time.as_secs_f64(), drain_seconds: 0.0, instances: 0 };
        for line in output.lines() {
            let seconds = line.strip_suffix(" s)").and_then(|rest| rest.rsplit_once('(')?.1.parse::<f64>().ok());
            match seconds {
                Some(_) if line.contains(" ready with version ") => upgrade.instances += 1,
                Some(seconds) => upgrade.drain_seconds += seconds,
                None => {}
            }
        }
        ensure!(upgrade.instances > 0, "mf upgrade has printed no steps:\n{output}");
        Ok(upgrade)
    }
}

/// A command that is killed when it is dropped.
struct Terminal(Child);

impl Terminal {
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn print(measurement: &Measurement) {
    let Measurement { scenario, seconds, requests, failed, first_failure, delivery, good, .. } = measurement;
    let name = scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    println!("\n{name} ({seconds:.0} s)");
    println!("  requests    {requests}, {failed} failed");
    if let Some(failure) = first_failure {
        println!("              {failure}");
    }
    println!(
        "  messages    {} posted, {} deliveries: {} lost, {} duplicated, {} out of order; {} reconnects{}",
        delivery["posted"],
        delivery["delivered"],
        delivery["lost"],
        delivery["doubled"],
        delivery["reordered"],
        delivery["reconnects"],
        if *good { "" } else { "   FAIL" },
    );
    if let Some(seconds) = measurement.seconds_per_instance {
        println!(
            "  upgrade     {} instances, {seconds:.1} s each besides drain and --min-healthy",
            measurement.instances
        );
    }
}
