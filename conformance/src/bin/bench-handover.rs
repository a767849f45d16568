//! Measures what users notice when all parts move from the monolith to their services and back, under load.
//! `mfbench handover` builds and starts it.

use std::{
    fmt::Display,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use flack_conformance::{
    benchmark,
    client::{Client, Person},
    contract::Contract,
    delivery::{Over, Plan, Progress, verify_as},
    load::Load,
    stack::{Operator, Stack, Stage, text},
};
use flack_handover::guards::LAG_MS_MAX;
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime::Builder, time::sleep};

const POSTERS: u32 = 10;
/// The authors of `--written`: each has a quota of messages.
const WRITERS: usize = 100;
/// Moves that take longer are no result.
const TIME_MAX: Duration = Duration::from_hours(1);
/// A machine on which a condition is not met for so long cannot be measured.
const CONDITION_SECONDS_MAX: &str = "120";
/// The replicas report the p99 of the last ten seconds.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Measure what users notice when all parts move from the monolith to their services and back
///
/// Starts a stack with the `mf` beside this program, or `FLACK_MF`. Clients read, post messages with an
/// Idempotency-Key, and sign in; none repeats a request. Sockets receive every message, and are compared afterwards.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 nothing failed, 1 a request failed or a message was lost, 64 usage, 70 no result."
)]
struct Arguments {
    /// How often all parts move there and back
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Clients that each have one request at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// Milliseconds before each request of a client; without a pause the clients take all that the machine has
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pause: u64,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    sockets: u32,
    /// Sockets that repeatedly drop their connection, and resume
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=2000))]
    dropping: u32,
    /// Messages per second to the sockets, besides those of the clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// The load goes on until so many requests were sent
    #[arg(long, default_value_t = 0)]
    requests: usize,
    /// Messages that are posted as fast as possible while the services own all parts, before these move back
    #[arg(long, default_value_t = 0)]
    written: usize,
    /// `--max-lag` of the moves, in milliseconds
    #[arg(long, default_value_t = LAG_MS_MAX)]
    max_lag: u32,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Measurement {
    seconds: f64,
    requests: usize,
    failed: usize,
    first_failure: Option<String>,
    delivery: Value,
    good: bool,
    /// For each change of owner, how long writes waited at most.
    pauses_ms: Vec<u64>,
    /// The p99 of the lag in ten seconds, of each replica again and again.
    lags_ms: Vec<u64>,
}

fn main() -> ExitCode {
    benchmark::main(Builder::new_multi_thread(), async |arguments: Arguments| run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<bool> {
    let stack = Stack::start(Stage::Monolith, "")?;
    let client = Client::new(&stack.url(), Arc::new(Contract::load()?))?;
    let author = client.person("busy").await?;
    let plan = Plan {
        posters: POSTERS,
        sockets: arguments.sockets,
        rate: f64::from(arguments.rate),
        time: TIME_MAX,
        over: Over::Both,
        both_sides: false,
        dropping: arguments.dropping,
        faults: vec![],
    };
    let pause = Duration::from_millis(arguments.pause);
    let (load, began) = (Load::mixed(&client, arguments.clients.into(), &author, pause), Instant::now());
    load.warmed_up().await?;
    let (operator, progress) = (stack.operator(), Progress::default());
    let moving = async {
        let (mut pauses, mut lags) = (Vec::new(), Vec::new());
        let result = tokio::select! {
            result = move_all(&operator, arguments, &client, &load, &mut pauses) => result,
            result = sample_lags(&operator, &mut lags) => result,
        };
        progress.end();
        result.map(|()| (pauses, lags))
    };
    let (verdict, (mut pauses_ms, mut lags_ms)) =
        tokio::try_join!(verify_as(&client, &operator, &plan, "poster", &progress), moving)?;
    pauses_ms.sort_unstable();
    lags_ms.sort_unstable();
    let (requests, failed) = (load.answered() + load.failed(), load.failed());
    let measurement = Measurement {
        seconds: began.elapsed().as_secs_f64(),
        requests,
        failed,
        first_failure: load.end_without_failure().err().map(|error| error.to_string()),
        delivery: verdict.to_json(),
        good: failed == 0 && verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0,
        pauses_ms,
        lags_ms,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measurement)?);
    } else {
        measurement.print();
    }
    Ok(measurement.good)
}

/// Moves all parts there and back, and waits for the requests.
async fn move_all(
    operator: &Operator,
    arguments: &Arguments,
    client: &Client,
    load: &Load,
    pauses: &mut Vec<u64>,
) -> Result<()> {
    let max_lag = arguments.max_lag.to_string();
    for round in 1..=arguments.rounds {
        for side in ["services", "monolith"] {
            let began = Instant::now();
            let limits = ["--max-lag", &max_lag, "--timeout", CONDITION_SECONDS_MAX];
            let command = [&["migrate", "all", "--to", side, "--no-shadow"][..], &limits].concat();
            let output = operator.in_background(&command).await?;
            let printed = text(&output);
            ensure!(output.status.success(), "round {round}: mf {}: {}\n{printed}", command.join(" "), output.status);
            // Such as `users: cutover done; writes waited at most 41 ms`.
            pauses.extend(printed.lines().filter_map(|line| {
                line.split_once("writes waited at most ")?.1.strip_suffix(" ms")?.parse::<u64>().ok()
            }));
            eprintln!("round {round}: all parts at the {side} after {:.1} s", began.elapsed().as_secs_f64());
            if side == "services" && arguments.written > 0 {
                write(client, arguments.written).await?;
            }
        }
    }
    while load.answered() < arguments.requests {
        load.continues().await.context("the load stands still")?;
    }
    Ok(())
}

/// Posts messages, one after the other by each author.
async fn write(client: &Client, messages: usize) -> Result<()> {
    let authors: Vec<Person> = try_join_all((0..WRITERS).map(|_| client.person("writer"))).await?;
    let (authors, began) = (Arc::new(authors), Instant::now());
    let load = Load::start(client, WRITERS, move |client, number| {
        let authors = Arc::clone(&authors);
        async move { client.message(&authors[number % WRITERS], &format!("written {number}")).await.map(drop) }
    });
    while load.answered() < messages {
        load.continues().await.context("the writers stand still")?;
    }
    eprintln!("{} messages written at the services in {:.1} s", load.answered(), began.elapsed().as_secs_f64());
    load.end_without_failure()
}

/// Reads the lag of the replicas again and again.
async fn sample_lags(operator: &Operator, lags: &mut Vec<u64>) -> Result<()> {
    loop {
        sleep(LAG_INTERVAL).await;
        let output = operator.in_background(&["migrate", "--json"]).await?;
        let parts: Value = serde_json::from_slice(&output.stdout).with_context(|| text(&output))?;
        let parts = parts.as_array().into_iter().flatten();
        lags.extend(parts.filter_map(|part| part["replica"]["following"]["lag_ms"].as_u64()));
    }
}

impl Measurement {
    fn print(&self) {
        let Self { seconds, requests, failed, first_failure, delivery, good, pauses_ms, lags_ms } = self;
        println!("all parts there and back ({seconds:.0} s){}", if *good { "" } else { "   FAIL" });
        println!("  requests    {requests}, {failed} failed");
        if let Some(failure) = first_failure {
            println!("              {failure}");
        }
        println!(
            "  messages    {} posted, {} deliveries: {} lost, {} duplicated, {} out of order; {} reconnects",
            delivery["posted"],
            delivery["delivered"],
            delivery["lost"],
            delivery["doubled"],
            delivery["reordered"],
            delivery["reconnects"],
        );
        println!("  pauses      {} changes of owner: {}", pauses_ms.len(), percentiles(pauses_ms));
        println!("  lag         p99 of ten seconds: {}", percentiles(lags_ms));
    }
}

/// Returns percentiles of sorted values.
fn percentiles<T: Copy + Display>(sorted: &[T]) -> String {
    let Some(largest) = sorted.last() else { return "none".to_owned() };
    let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
    format!("p50 {} ms, p99 {} ms, largest {largest} ms", at(50), at(99))
}
