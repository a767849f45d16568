//! `mf chaos`: makes faults at random times, undoes them, and reports what users noticed.

mod plan;
mod record;
mod relay;
mod faults;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use flack_supervisor::State;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use self::faults::{Faults, wait_until_ready};
use self::plan::{Fault, Kind, Peer, Victims, plan};
pub use self::record::Record;
use self::traffic::{Counts, Messages, Traffic};
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::output::print_json;
use crate::runtime::{self, Runtime};
use crate::signals::interrupted;
use crate::stack::Stack;
use crate::test_users;

/// A plan needs time for at least one fault. The client that posts uses one token, which expires after an hour.
const SECONDS: std::ops::RangeInclusive<i64> = 10..=1800;
/// After the last fault, all processes must run again in this time. The supervisor's pause before a restart grows.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(2);
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Make random faults in the running stack, undo them, and report what users noticed
///
/// Faults follow each other: kill, stop (SIGSTOP), slow, partition, full-disk-of-logs. --plan shows them. PostgreSQL is
/// never a victim, because it has the only copy of the data; no fault deletes or fills a file. For a partition, this
/// command starts one more instance with a relay in the place of etcd, NATS, PostgreSQL, the internal listener or the
/// balancer, and cuts the relay: that needs no root, and ends no connection. For full-disk-of-logs, one more instance
/// writes its log to /dev/full. In containers, stop and slow are docker pause, and a partition is docker network
/// disconnect: from the network of the database, or from that of all others.
///
/// Meanwhile clients read, sign in, and post messages with an Idempotency-Key, through the balancer (22 requests/s).
/// They repeat what fails, for at most 15 s. Their user and messages are removed afterwards.
///
/// Ctrl-C undoes everything. If this command is killed, `mfchaos restore`, mfup, mfdown or the next mfchaos does it.
/// Exit code 1 means that a request failed in spite of its retries, or that a message was lost or stored twice.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = examples(&[
    "mfchaos                                   # 60 s of all kinds of faults",
    "mfchaos --seconds 300 --kinds kill,stop",
    "mfchaos --seed 7 --plan                   # show what would happen",
    "mfchaos restore                           # after this command was killed",
]))]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How long the run lasts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(SECONDS))]
    seconds: u16,
    /// The kinds of faults; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// The same seed on the same processes gives the same plan; random by default
    #[arg(long)]
    seed: Option<u32>,
    /// Print the plan, and do nothing
    #[arg(long)]
    plan: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Undo what an earlier mfchaos left, because it was killed
    Restore,
}

/// The result of a run.
#[derive(Debug, Serialize)]
struct Report {
    seed: u32,
    seconds: u16,
    faults: Vec<Fault>,
    requests: Counts,
    messages: Messages,
    /// How long after the last fault all processes ran again.
    recovery_milliseconds: u128,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    if args.command.is_some() {
        return restore().await;
    }
    let (home, runtime) = runtime::require().await?;
    let stack = runtime.stack(&home).await?;
    let victims = Victims::of(&runtime.list().await?, Peer::all(&runtime));
    let kinds = kinds(&args, &victims)?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let faults = plan(seed.into(), Duration::from_secs(args.seconds.into()), &kinds, &victims);
    if args.plan {
        print_plan(seed, &faults, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = home.lock("chaos")?;
    let mut record = Record::load(&home)?;
    for restored in record.restore(Some(&runtime)).await? {
        eprintln!("undone of an earlier run: {restored}");
    }
    require_whole(&runtime).await?;
    let before: Vec<(String, String)> = instances(&runtime).await?;
    let stem = format!("chaos-{:08x}", rand::random::<u32>());
    let traffic = Traffic::start(stack.url(), &stem).await?;
    eprintln!("{} faults in {} s, seed {seed}. Ctrl-C undoes them.", faults.len(), args.seconds);
    let made = tokio::select! {
        made = make(Faults { stack: &stack, runtime: &runtime, record: &mut record }, &faults, args.seconds) => made,
        () = interrupted() => Err(failure!(Interrupted, "interrupted; all faults are undone")),
    };
    let ended = Instant::now();
    let restored = record.restore(Some(&runtime)).await;
    let result = async {
        made?;
        restored?;
        recover(&stack, &runtime, &before).await?;
        let recovery_milliseconds = ended.elapsed().as_millis();
        Ok((recovery_milliseconds, traffic.finish().await?))
    };
    let result: Result<_> = result.await;
    match test_users::remove(&stack, &stem).await {
        Ok(removed) => eprintln!("{removed}"),
        Err(error) => eprintln!("the user {stem}-... and its messages cannot be removed: {error}. Their data stays"),
    }
    let (recovery_milliseconds, (requests, messages)) = result?;
    let report = Report { seed, seconds: args.seconds, faults, requests, messages, recovery_milliseconds };
    if args.json {
        print_json(&report);
    } else {
        print(&report);
    }
    let is_good = report.requests.failed == 0 && report.messages.lost == 0 && report.messages.duplicated == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { failure!(TestsFailed, "").code() })
}

fn kinds(args: &Args, victims: &Victims) -> Result<Vec<Kind>> {
    use clap::ValueEnum as _;
    let all = args.kinds.is_empty();
    let mut chosen = if all { Kind::value_variants().to_vec() } else { args.kinds.clone() };
    chosen.sort_unstable();
    chosen.dedup();
    let (possible, impossible): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|kind| victims.allow(*kind));
    match impossible.first().and_then(Kind::to_possible_value) {
        Some(kind) if !all => Err(failure!(
            Usage,
            "nothing runs that {} can meet: it needs an instance of a service (not the monolith). See mfps",
            kind.get_name()
        )),
        _ => Ok(possible),
    }
}

/// A stack with problems would be blamed for them.
async fn require_whole(runtime: &Runtime) -> Result<()> {
    match runtime.list().await?.into_iter().find(|process| process.state != State::Running) {
        Some(process) => Err(failure!(
            Unavailable,
            "{} is {}: mfchaos needs a stack whose processes all run. See mflogs {}",
            process.name,
            process.state,
            process.name
        )),
        None => Ok(()),
    }
}

/// Returns name and service of each instance.
async fn instances(runtime: &Runtime) -> Result<Vec<(String, String)>> {
    let is_instance = |group: &str| flack_catalogue::Service::find(group).is_some();
    let listed = runtime.list().await?.into_iter().filter(|process| is_instance(&process.group));
    Ok(listed.map(|process| (process.name, process.group)).collect())
}

async fn make(mut making: Faults<'_>, faults: &[Fault], seconds: u16) -> Result<()> {
    let started = Instant::now();
    for fault in faults {
        sleep_until(started + Duration::from_millis(fault.at_milliseconds)).await;
        eprintln!("{fault}");
        making.make(fault).await?;
    }
    sleep_until(started + Duration::from_secs(seconds.into())).await;
    Ok(())
}

/// Waits until all processes run and the balancer uses all instances again.
async fn recover(stack: &Stack, runtime: &Runtime, instances: &[(String, String)]) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_TIMEOUT;
    while let Err(problem) = require_whole(runtime).await {
        if Instant::now() > deadline {
            return Err(Failure { exit: crate::failure::Exit::Internal, ..problem });
        }
        sleep(RECOVERY_POLL_INTERVAL).await;
    }
    let registry = stack.registry().await?;
    for (name, service) in instances {
        wait_until_ready(&registry, service, name).await?;
    }
    Ok(())
}

async fn restore() -> Result<ExitCode> {
    let (home, runtime) = runtime::find().await?;
    if !home.exists() {
        return Err(runtime::not_running(&home)?);
    }
    let _lock = home.lock("chaos restore")?;
    let restored = Record::load(&home)?.restore(runtime.as_ref()).await?;
    if restored.is_empty() {
        print_line!("There is nothing to undo in {}.", home.path().display());
    }
    for restored in restored {
        print_line!("{restored}");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_plan(seed: u32, faults: &[Fault], as_json: bool) {
    if as_json {
        print_json(&serde_json::json!({ "seed": seed, "faults": faults }));
        return;
    }
    print_line!("seed {seed}");
    for fault in faults {
        print_line!("{fault}");
    }
}

fn print(report: &Report) {
    let Report { requests, messages, .. } = report;
    print_line!("seed       {}", report.seed);
    print_line!(
        "faults     {}, undone; all processes ran again after {} ms",
        report.faults.len(),
        report.recovery_milliseconds
    );
    print_line!("requests   {}, {} of them repeated, {} failed", requests.requests, requests.repeated, requests.failed);
    for (reason, times) in &requests.failed_attempts {
        print_line!("           {times} attempts: {reason}");
    }
    print_line!(
        "longest    {} ms without a successful answer; the slowest request took {} ms",
        requests.longest_gap_milliseconds,
        requests.slowest_milliseconds
    );
    print_line!(
        "messages   {} acknowledged, {} lost, {} stored twice",
        messages.acknowledged,
        messages.lost,
        messages.duplicated
    );
    for failure in &requests.failures {
        print_line!("failed     {failure}");
    }
}
