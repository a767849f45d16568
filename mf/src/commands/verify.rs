//! `mf verify`: runs the verifier, a program of its own that only uses the public and the internal listener.
//!
//! Checks the names of processes before the run, and removes the users and messages of the run afterwards.

use std::process::{ExitCode, Stdio};

use clap::ValueEnum;
use flack_catalogue::{MONOLITH, Service};
use flack_supervisor::ProcessStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

use crate::failure::Result;
use crate::help::examples;
use crate::infra::programs;
use crate::signals::interrupted;
use crate::{runtime, suggestion, test_users};

const PROGRAM: &str = "verify-delivery";
/// The instance that publishes the posted messages at that moment.
const RELAY: &str = "relay";
/// More sockets would exceed the limit of open files before a limit of Flack.
const SOCKETS_MAX: i64 = 8_000;
const POSTERS_MAX: i64 = 1_000;
const RATE_MAX: f64 = 10_000.0;
const SECONDS_MAX: i64 = 3_600;

/// Verify that every acknowledged message reaches every websocket once and in order, even while processes are killed
///
/// The last line is PASS or FAIL.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfverify delivery --sockets 100 --posters 50 --rate 200 --seconds 60",
    "mfverify delivery --seconds 30 --dropping 20 --kill websocket --kill nats --kill etcd",
    "mfverify delivery --over both --both-sides --json",
    "mfverify delivery --help          # all options",
]))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Delivery(Delivery),
}

/// No message is lost, duplicated or out of order
///
/// Registers users, posts messages as these users at a rate, receives them on many websockets, and compares both with
/// each other and with the history. Afterwards it removes the users and their messages from the databases; open windows
/// of the chat show the messages until they are reloaded. Faults are spread evenly over the run.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfverify delivery --seconds 20 --kill websocket --kill nats",
    "mfverify delivery --freeze relay --replace users",
]))]
struct Delivery {
    /// How many sockets receive messages
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=SOCKETS_MAX))]
    sockets: u32,
    /// How many of these sockets drop their connection at random and resume
    #[arg(long, default_value_t = 0)]
    dropping: u32,
    /// How many users post
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=POSTERS_MAX))]
    posters: u32,
    /// Messages per second, of all users together
    #[arg(long, default_value_t = 200.0, value_parser = parse_rate)]
    rate: f64,
    /// How long messages are posted
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX.unsigned_abs()))]
    seconds: u64,
    /// The protocol with which messages are posted
    #[arg(long, value_enum, default_value_t = Over::Rest)]
    over: Over,
    /// Connect every second socket directly to the monolith instead of the balancer
    #[arg(long)]
    both_sides: bool,
    /// Kill a process (kill -9): an instance (users-1), a service (users: one of its instances), another process
    /// (nats), or `relay`, the instance that publishes the messages
    #[arg(long, value_name = "NAME")]
    kill: Vec<String>,
    /// Freeze a process for 8 s with its connections open: as --kill
    #[arg(long, value_name = "NAME")]
    freeze: Vec<String>,
    /// Replace an instance as in an upgrade (start another, drain the old one): an instance, a service or `relay`
    #[arg(long, value_name = "NAME")]
    replace: Vec<String>,
    /// Do not remove the users and messages of the run
    #[arg(long)]
    keep: bool,
    /// Print the result as JSON; PASS or FAIL is then on standard error
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Over {
    Rest,
    Websocket,
    /// Half of the users each
    Both,
}

/// As in the verifier's plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fault<'a> {
    Kill(&'a str),
    Freeze(&'a str),
    Replace(&'a str),
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= RATE_MAX);
    rate.ok_or_else(|| format!("`{text}` is not a rate: write a number above 0, at most {RATE_MAX}"))
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let What::Delivery(options) = args.what;
    if options.dropping > options.sockets {
        return Err(failure!(Usage, "--dropping {}: there are only {} sockets", options.dropping, options.sockets));
    }
    let (home, runtime) = runtime::require().await?;
    let stack = runtime.stack(&home).await?;
    options.check_names(&runtime.list().await?)?;
    let program = programs::own(PROGRAM)?;
    // No other run and no user has nicknames that begin with this.
    let stem = format!("verify-{:08x}", rand::rng().random::<u32>());
    let mut command = Command::new(program);
    command.args(["--url", &stack.url(), "--stem", &stem]).args(options.json.then_some("--json")).arg(options.plan());
    command.envs(runtime.environment(&home)).env("FLACK_MF", programs::mf()?).stdin(Stdio::null());
    let mut verifier = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure!(Internal, "{PROGRAM} cannot be started: {error}. Build it: mfbuild"))?;
    let status = tokio::select! {
        status = verifier.wait() => Some(status),
        () = interrupted() => None,
    };
    if status.is_none() {
        // Not SIGKILL: it must continue a process that it has frozen. Ctrl-C has ended it already.
        if let Some(pid) = verifier.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        let _ = verifier.wait().await;
    }
    let removed = if options.keep {
        eprintln!("mf: the users {stem}-... and their messages are kept");
        Ok(())
    } else {
        test_users::remove(&stack, &stem).await.map(|removed| eprintln!("mf: {removed}"))
    };
    let removed = removed.map_err(|error| {
        failure!(Internal, "the users {stem}-... and their messages cannot be removed: {error}. Their data stays")
    });
    let Some(status) = status else {
        removed?;
        return Err(failure!(Interrupted, "interrupted"));
    };
    let code = status.ok().and_then(|status| status.code());
    let verdict = match code {
        Some(0) => "PASS",
        Some(1) => "FAIL",
        _ => "FAIL: the run did not complete",
    };
    if let Err(failure) = &removed {
        eprintln!("mf: {failure}");
    }
    if options.json {
        eprintln!("{verdict}");
    } else {
        print_line!("{verdict}");
    }
    match code {
        Some(0) => removed.map(|()| ExitCode::SUCCESS).or_else(|failure| Ok(failure.code())),
        Some(1) => Ok(ExitCode::FAILURE),
        _ => Ok(failure!(Internal, "").code()),
    }
}

impl Delivery {
    /// Returns the plan for the verifier.
    fn plan(&self) -> String {
        let kills = self.kill.iter().map(|name| Fault::Kill(name));
        let freezes = self.freeze.iter().map(|name| Fault::Freeze(name));
        let replaces = self.replace.iter().map(|name| Fault::Replace(name));
        let faults: Vec<Fault<'_>> = kills.chain(freezes).chain(replaces).collect();
        let plan = json!({
            "sockets": self.sockets, "dropping": self.dropping, "posters": self.posters, "rate": self.rate,
            "seconds": self.seconds, "over": self.over, "both_sides": self.both_sides, "faults": faults,
        });
        plan.to_string()
    }

    /// Returns a failure for a name of a process that does not run, or that cannot be replaced.
    fn check_names(&self, processes: &[ProcessStatus]) -> Result<()> {
        let is_service = |process: &&ProcessStatus| Service::find(&process.group).is_some();
        // Of the monolith only one instance can run.
        let is_replaceable = |process: &&ProcessStatus| is_service(process) && process.group != MONOLITH;
        let all = names(processes.iter());
        let replaceable = names(processes.iter().filter(is_replaceable));
        let uses =
            [("kill", &self.kill, &all), ("freeze", &self.freeze, &all), ("replace", &self.replace, &replaceable)];
        for (option, wanted, known) in uses {
            if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
                let hint = suggestion::among(unknown, "possible names", known.iter().copied());
                return Err(failure!(Usage, "--{option} {unknown}: there is no such process; {hint}"));
            }
        }
        Ok(())
    }
}

/// Returns what can be named: the processes, their services, and the relay.
fn names<'a>(processes: impl Iterator<Item = &'a ProcessStatus>) -> Vec<&'a str> {
    let mut names: Vec<&str> = processes.flat_map(|process| [process.name.as_str(), process.group.as_str()]).collect();
    names.push(RELAY);
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use clap::Parser;
    use flack_supervisor::{Environment, State};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Delivery,
    }

    fn check(arguments: &[&str]) -> Result<()> {
        let processes = [("nats", "nats"), ("monolith-1", "monolith"), ("users-1", "users")].map(|(name, group)| {
            let (name, group) = (name.to_owned(), group.to_owned());
            let started = Utc::now();
            let state = State::Running;
            ProcessStatus {
                name,
                group,
                state,
                version: None,
                own_env: Environment::default(),
                pid: None,
                restarts: 0,
                started,
                last_end: None,
            }
        });
        Cli::parse_from(std::iter::once(&"verify").chain(arguments)).options.check_names(&processes)
    }

    #[test]
    fn an_instance_a_service_another_process_and_the_relay_can_be_named() {
        for name in ["users-1", "users", "nats", "relay", "monolith"] {
            check(&["--kill", name, "--freeze", name]).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        }
        check(&["--replace", "users", "--replace", "relay"]).expect("users can be replaced");
    }

    #[test]
    fn what_has_only_one_process_cannot_be_replaced() {
        for name in ["nats", "monolith", "monolith-1"] {
            let failure = check(&["--replace", name]).expect_err(name);
            assert!(failure.message.contains("possible names are relay, users, users-1"), "{failure}");
        }
    }
}
