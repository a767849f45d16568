//! `mf bench`: runs a benchmark with a temporary database.

use std::process::ExitCode;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cargo::{self, cannot_run};
use crate::failure::Result;
use crate::help::examples;
use crate::infra::postgres::TemporaryServer;
use crate::signals::interrupted;

/// Measure one part in a release build, and print the results with the machine
///
/// Starts PostgreSQL, etcd and NATS in temporary folders, and stops them afterwards. The first run builds for some
/// minutes. To measure a whole stack, use mfverify.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfbench idle-sockets         # memory per idle connection",
    "mfbench fan-out              # deliveries per second on one core, and their latency",
]))]
pub struct Args {
    benchmark: Benchmark,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Memory of the websocket service with thousands of idle connections
    IdleSockets,
    /// Deliveries that the websocket service makes on one core
    FanOut,
}

impl Benchmark {
    /// The argument of flack-websocket's example `benchmark`.
    fn argument(self) -> &'static str {
        match self {
            Self::IdleSockets => "idle-sockets",
            Self::FanOut => "fan-out",
        }
    }
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let database = TemporaryServer::start().await?;
    let result = measure(args.benchmark, &database).await;
    database.stop().await;
    result
}

async fn measure(what: Benchmark, database: &TemporaryServer) -> Result<ExitCode> {
    let mut child = cargo::command(&[
        "run",
        "--release",
        "--package",
        "flack-websocket",
        "--example",
        "benchmark",
        what.argument(),
    ])
    .env("DATABASE_URL", database.url()?)
    .spawn()
    .map_err(|error| cannot_run(&error))?;
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
    if !status.map_err(|error| cannot_run(&error))?.success() {
        return Err(failure!(Internal, "the benchmark failed; its error is above"));
    }
    Ok(ExitCode::SUCCESS)
}
