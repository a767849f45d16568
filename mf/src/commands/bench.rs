//! `mf bench`: runs a benchmark with a temporary database, or on temporary stacks.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::cargo;
use crate::failure::{Exit, Result};
use crate::help::examples;
use crate::home::repository;
use crate::infra::postgres::TemporaryServer;
use crate::signals::interrupted;

/// Measure one part in a release build, and print the results with the machine
///
/// Starts what it needs in temporary folders, and stops it afterwards. The first run builds for some minutes. To
/// verify a running stack under load, use mfverify.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfbench idle-sockets         # memory per idle connection",
    "mfbench fan-out              # deliveries per second on one core, and their latency",
    "mfbench reads                # GET /api/messages: requests per second, processor time of each process",
    "mfbench reads --seconds 30 --stage services --json",
    "mfbench upgrades             # requests that fail while services are upgraded, killed or frozen",
    "mfbench handover             # what users notice when all parts move to services and back",
    "mfbench search               # searches over a million messages",
    "mfbench reads --help         # all options",
]))]
pub struct Args {
    benchmark: Benchmark,
    /// Options of `reads`, `upgrades` and `handover`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Memory of the websocket service with thousands of idle connections
    IdleSockets,
    /// Deliveries that the websocket service makes on one core
    FanOut,
    /// `GET /api/messages` through the balancer, on a stack of each stage
    Reads,
    /// Failed requests and lost messages while services are upgraded, killed and frozen
    Upgrades,
    /// Failed requests, lost messages, pauses and lag while all parts move to services and back
    Handover,
    /// Searches over a million messages
    Search,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let example: &[&str] = match args.benchmark {
        Benchmark::IdleSockets => &["flack-websocket", "--example", "benchmark", "idle-sockets"],
        Benchmark::FanOut => &["flack-websocket", "--example", "benchmark", "fan-out"],
        Benchmark::Search => &["flack-search", "--example", "search_benchmark"],
        Benchmark::Reads => return on_stack("bench-reads", &args.options).await,
        Benchmark::Upgrades => return on_stack("bench-upgrades", &args.options).await,
        Benchmark::Handover => return on_stack("bench-handover", &args.options).await,
    };
    if !args.options.is_empty() {
        return Err(failure!(Usage, "this benchmark has no options"));
    }
    let database = TemporaryServer::start().await?;
    let result = run_example(example, &database).await;
    database.stop().await;
    result
}

/// Runs an example of a service. `example` is the package, and what follows it on the command line.
async fn run_example(example: &[&str], database: &TemporaryServer) -> Result<ExitCode> {
    let arguments = [&["run", "--release", "--package"], example].concat();
    let mut command = cargo::command(&arguments);
    command.env("DATABASE_URL", database.url()?);
    execute(command).await
}

/// Builds every program, because the stacks that are measured run them, and the measurement itself.
async fn on_stack(program: &str, options: &[OsString]) -> Result<ExitCode> {
    if !cargo::run(&["build", "--release", "--workspace", "--bins"]).await? {
        return Err(failure!(Internal, "the programs cannot be built; cargo printed the errors above"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let mut command = Command::new(repository().join(target).join("release").join(program));
    command.args(options).current_dir(repository()).kill_on_drop(true);
    execute(command).await
}

async fn execute(mut command: Command) -> Result<ExitCode> {
    let mut child = command.spawn().map_err(|error| failure!(Internal, "the benchmark cannot be started: {error}"))?;
    let status = tokio::select! {
        status = child.wait() => status,
        () = interrupted() => {
            // Not SIGKILL: the benchmark has processes of its own to stop.
            if let Some(pid) = child.id() {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            }
            let _ = child.wait().await;
            return Err(failure!(Interrupted, "interrupted"));
        }
    };
    let status = status.map_err(|error| failure!(Internal, "the benchmark cannot be awaited: {error}"))?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(1) => Ok(ExitCode::FAILURE),
        Some(code) if code == Exit::Usage as i32 => Ok(ExitCode::from(Exit::Usage as u8)),
        _ => Err(failure!(Internal, "the benchmark failed; its error is above")),
    }
}
