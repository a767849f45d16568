//! Measures `GET /api/messages` with 50 messages through the balancer, at both stages: requests per second, latency,
//! and the processor time of each process for one request. `mfbench reads` builds and starts it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use flack_conformance::{
    benchmark,
    client::{Auth, Client},
    contract::Contract,
    stack::{Stack, Stage},
};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
};

const MESSAGES: usize = 50;
/// Before the measurement: connections are opened and statements are prepared.
const WARM_UP: Duration = Duration::from_secs(2);
/// A longer answer is not a list of 50 messages.
const ANSWER_BYTES_MAX: usize = 1_048_576;
/// The load generator in the results; it is not a part of the stack.
const GENERATOR: &str = "load generator";

/// Measure `GET /api/messages` with 50 messages through the balancer, at both stages
///
/// Starts a stack of each stage with the `mf` beside this program, or `FLACK_MF`, and its programs. So two builds can
/// be compared on one machine: `FLACK_MF=<other folder>/target/release/mf target/release/bench-reads`.
#[derive(Debug, Parser)]
#[command(after_help = "Exit codes: 0 measured, 64 usage, 70 a stack failed or answered wrongly.")]
struct Arguments {
    /// Duration of each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections that each have one request at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Measurements of each stage; the one with the median of requests per second is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    #[arg(long, value_parser = ["services", "monolith"])]
    stage: Option<String>,
    #[arg(long)]
    json: bool,
}

/// The result of one measurement.
#[derive(Debug, Serialize)]
struct Measurement {
    stage: &'static str,
    answer_bytes: usize,
    requests: usize,
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time for one request, by process.
    processor_us: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    // One thread: the load generator takes little of the processor time that it measures.
    benchmark::main(Builder::new_current_thread(), async |arguments: Arguments| run(&arguments).await.map(|()| true))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut measurements = Vec::new();
    for stage in [Stage::Services, Stage::Monolith] {
        if arguments.stage.as_ref().is_some_and(|only| only != stage.name()) {
            continue;
        }
        eprintln!("starting the stack, stage {}", stage.name());
        let stack = Stack::start(stage, "")?;
        fill(&stack).await?;
        load(&stack, arguments.connections, WARM_UP).await?;
        let mut runs = Vec::new();
        for _ in 0..arguments.runs {
            runs.push(measure(&stack, arguments).await?);
        }
        runs.sort_by(|one, other| one.requests_per_second.total_cmp(&other.requests_per_second));
        let median = runs.swap_remove(runs.len() / 2);
        if !arguments.json {
            print(&median);
        }
        measurements.push(median);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measurements)?);
    }
    Ok(())
}

/// Posts the messages: short ones, as in a chat, some with Markdown.
async fn fill(stack: &Stack) -> Result<()> {
    let client = Client::new(&stack.url(), Arc::new(Contract::load()?))?;
    let person = client.person("reader").await?;
    for number in 0..MESSAGES {
        let source = format!("Message {number}: have you seen **the new build**? It starts in `9 ms`, I think.");
        client.message(&person, &source).await?;
    }
    let list = client.get("/api/messages", Auth::None, StatusCode::OK).await?;
    let messages = list.body["messages"].as_array().map_or(0, Vec::len);
    ensure!(messages == MESSAGES, "the list has {messages} messages instead of {MESSAGES}");
    Ok(())
}

async fn measure(stack: &Stack, arguments: &Arguments) -> Result<Measurement> {
    let before = processor_time(stack)?;
    let (mut latencies, answer_bytes) =
        load(stack, arguments.connections, Duration::from_secs(arguments.seconds)).await?;
    let after = processor_time(stack)?;
    ensure!(!latencies.is_empty(), "no request was answered in {} s", arguments.seconds);
    latencies.sort_unstable();
    let requests = latencies.len();
    let milliseconds = |part: usize| latencies[(requests * part / 1000).min(requests - 1)].as_secs_f64() * 1e3;
    let processor_us = after
        .into_iter()
        .map(|(process, time)| {
            let time = time.saturating_sub(before.get(&process).copied().unwrap_or_default());
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
            let requests = requests as f64;
            (process, time.as_secs_f64() * 1e6 / requests)
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let requests_per_second = requests as f64 / arguments.seconds as f64;
    let stage = stack.stage.name();
    let (p50_ms, p99_ms) = (milliseconds(500), milliseconds(990));
    Ok(Measurement { stage, answer_bytes, requests, requests_per_second, p50_ms, p99_ms, processor_us })
}

/// Sends requests on each connection, one after the other. Returns the latencies and the size of an answer's body.
async fn load(stack: &Stack, connections: u16, time: Duration) -> Result<(Vec<Duration>, usize)> {
    let address = stack.url().trim_start_matches("http://").to_owned();
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(read_until(address.clone(), end));
    }
    let (mut latencies, mut bytes) = (Vec::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let (of_connection, size) = task.context("a connection's task")??;
        latencies.extend(of_connection);
        bytes = size;
    }
    Ok((latencies, bytes))
}

/// One connection. Not an HTTP library: it would take as much processor time as the service.
async fn read_until(address: String, end: Instant) -> Result<(Vec<Duration>, usize)> {
    let request = format!("GET /api/messages HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    let mut stream = BufReader::new(TcpStream::connect(&address).await.context("the balancer does not listen")?);
    stream.get_ref().set_nodelay(true)?;
    let (mut latencies, mut line, mut body) = (Vec::new(), String::new(), Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        stream.get_mut().write_all(request.as_bytes()).await?;
        let mut bytes = None;
        line.clear();
        stream.read_line(&mut line).await?;
        ensure!(line.starts_with("HTTP/1.1 200 "), "the answer is {line:?}");
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => bytes = value.parse().ok(),
                Some(_) => {}
                None if line == "\r\n" => break,
                None => bail!("the answer has the header {line:?}"),
            }
        }
        let bytes = bytes.filter(|bytes| *bytes <= ANSWER_BYTES_MAX).context("an answer without its length")?;
        body.resize(bytes, 0);
        stream.read_exact(&mut body).await?;
        latencies.push(began.elapsed());
    }
    Ok((latencies, body.len()))
}

/// Returns the processor time of each process of the stack with its children, and of this one.
fn processor_time(stack: &Stack) -> Result<BTreeMap<String, Duration>> {
    let per_second = clock_ticks_per_second()?;
    let mut parents: BTreeMap<i64, (i64, Duration)> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let path = entry?.path();
        let pid = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<i64>().ok());
        let Some((pid, (parent, ticks))) = pid.and_then(|pid| Some((pid, stat(&path)?))) else { continue };
        parents.insert(pid, (parent, Duration::from_millis(ticks * 1000 / per_second)));
    }
    let ps = stack.ps()?;
    let rows = ps["processes"].as_array().context("mf ps lists no processes")?;
    let names: BTreeMap<i64, String> = rows.iter().filter_map(|row| Some((row["pid"].as_i64()?, name(row)?))).collect();
    let mut times = BTreeMap::new();
    for (pid, (_, time)) in &parents {
        let mut ancestors = std::iter::successors(Some(*pid), |pid| parents.get(pid).map(|(parent, _)| *parent));
        let own = i64::from(std::process::id());
        let name =
            if *pid == own { Some(GENERATOR.to_owned()) } else { ancestors.find_map(|pid| names.get(&pid).cloned()) };
        if let Some(name) = name {
            *times.entry(name).or_insert(Duration::ZERO) += *time;
        }
    }
    Ok(times)
}

/// The name in the results: instances of a service are one line.
fn name(row: &Value) -> Option<String> {
    row["service"].as_str().map(str::to_owned)
}

/// Returns parent and ticks (user, system, and those of children that have ended) from `/proc/<pid>/stat`; `None` for a
/// process that has ended meanwhile.
fn stat(process: &Path) -> Option<(i64, u64)> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses may contain spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = (11..15).map(|field| fields.get(field)?.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
}

fn clock_ticks_per_second() -> Result<u64> {
    let output = Command::new("getconf").arg("CLK_TCK").output().context("cannot run getconf")?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("getconf CLK_TCK printed no number")
}

fn print(measurement: &Measurement) {
    let Measurement { stage, answer_bytes, requests, requests_per_second, p50_ms, p99_ms, processor_us } = measurement;
    println!("\nstage {stage}: GET /api/messages, {MESSAGES} messages, {answer_bytes} bytes");
    println!("{requests_per_second:10.0} requests/s ({requests}), p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms");
    println!("processor time for one request:");
    let mut shares: Vec<_> = processor_us.iter().filter(|(_, time)| **time >= 1.0).collect();
    shares.sort_by(|one, other| other.1.total_cmp(one.1));
    for (process, time) in shares {
        println!("{time:10.0} us  {process}");
    }
}
