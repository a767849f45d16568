//! `mf bench`: a benchmark, with a database of its own that is thrown away afterwards.

use std::process::ExitCode;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cargo::{self, cannot_run};
use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::infra::postgres::TemporaryServer;
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
    /// The example of flack-websocket that measures it.
    fn example(self) -> &'static str {
        match self {
            Self::IdleSockets => "idle_sockets",
            Self::FanOut => "fan_out",
        }
    }
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let database = TemporaryServer::start().await?;
    let result = measure(args.what, &database).await;
    database.stop().await;
    result
}

async fn measure(what: Benchmark, database: &TemporaryServer) -> Result<ExitCode> {
    let mut child =
        cargo::command(&["run", "--release", "--package", "flack-websocket", "--example", what.example()])
            .env("DATABASE_URL", database.url()?)
            .spawn()
            .map_err(|error| cannot_run(&error))?;
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
    if !status.map_err(|error| cannot_run(&error))?.success() {
        return Err(Failure::internal("the benchmark failed; its error is above"));
    }
    Ok(ExitCode::SUCCESS)
}
