//! `mf bench`: a benchmark, with a database of its own that is thrown away afterwards.

use std::process::{ExitCode, Stdio};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::home::repository;
use crate::infra::postgres::Throwaway;
use crate::signals::interrupted;

/// Measure a part on its own, in a release build, and print the figures with the machine they were taken on
///
/// Starts what the part needs (PostgreSQL, etcd, nats-server) in temporary folders, and ends it afterwards. The first time it builds
/// for some minutes. What a whole stack does is measured by mfverify.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfbench idle-sockets         # memory that a connection takes while nothing happens\n  mfbench fan-out              # deliveries a second on one core, and how long they take"))]
pub struct Args {
    what: Benchmark,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Memory of the websocket service with thousands of idle connections
    IdleSockets,
    /// Deliveries that the websocket service makes on one core
    FanOut,
}

impl Benchmark {
    /// An example of the package that it measures.
    fn example(self) -> [&'static str; 4] {
        match self {
            Self::IdleSockets => ["--package", "flack-websocket", "--example", "idle_sockets"],
            Self::FanOut => ["--package", "flack-websocket", "--example", "fan_out"],
        }
    }
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let database = Throwaway::start().await?;
    let result = measure(args.what, &database).await;
    database.end().await;
    result
}

async fn measure(what: Benchmark, database: &Throwaway) -> Result<ExitCode> {
    let mut child = Command::new("cargo")
        .args(["run", "--release"])
        .args(what.example())
        .current_dir(repository())
        .env("DATABASE_URL", database.url())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| {
            Failure::unavailable(format!("cargo cannot be started: {error}. Get Rust from https://rustup.rs"))
        })?;
    let status = tokio::select! {
        status = child.wait() => status,
        () = interrupted() => {
            // Asked to end, not killed: the benchmark has processes of its own to end.
            if let Some(pid) = child.id() {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            }
            let _ = child.wait().await;
            return Err(Failure::new(Exit::Interrupted, "interrupted"));
        }
    };
    let status = status.map_err(|error| Failure::internal(format!("cargo was lost: {error}")))?;
    if !status.success() {
        return Err(Failure::internal("the benchmark failed; it says why above"));
    }
    Ok(ExitCode::SUCCESS)
}
