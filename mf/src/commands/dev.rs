//! `mf dev`: runs a service of the working tree as part of a running stack, until Ctrl-C.

use std::cell::Cell;
use std::convert::Infallible;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flack_catalogue::{MONOLITH, Service};
use flack_common::registry::{LEASE_SECONDS, Split};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::commands::env;
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::infra::programs;
use crate::probe;
use crate::registry::{Registry, Snapshot};
use crate::runtime;
use crate::services;
use crate::signals::interrupted;
use crate::splits::{self, Audience};
use crate::stack::{INSTANCE_STOP_SECONDS_MAX, Stack};
use crate::upgrade::counters;

/// The version of the working tree. A second `mf dev` of the same service has `dev-2`.
const VERSION: &str = "dev";
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the entry of a process that has crashed may stay in the registry.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2 * LEASE_SECONDS);

/// Run a service of your working tree as part of a running stack, until Ctrl-C
///
/// Starts the program in this terminal as one more instance, with the version `dev`. With --header, --cookie, --user or
/// --percent only those requests get it, and all others get what they got before; without, it gets its part of all
/// requests. Ctrl-C drains the instance and removes the split. When the program crashes, the other instances answer.
/// Its migrations are applied to the stack's database, and stay.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfdev users --header 'X-Dev: me'           # curl -H 'X-Dev: me' reaches your users",
    "mfdev ui --cookie canary=1 --port 9001",
    "mfdev users --percent 10 -- cargo run --release -p flack-users",
    "mfdev users --header 'X-Dev: me' --wait    # start it yourself, for example in a debugger",
]))]
pub struct Args {
    /// The service
    #[arg(value_parser = services::argument())]
    service: &'static Service,
    #[command(flatten)]
    audience: splits::Options,
    /// The port of the instance, by default a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Start no program: print the environment for one that you start, and wait for it
    #[arg(long, conflicts_with = "command")]
    wait: bool,
    /// Also print passwords and URLs that contain one
    #[arg(long)]
    secrets: bool,
    /// The program to start, by default the one of the service
    #[arg(last = true)]
    command: Vec<String>,
}

/// One run of the command.
struct Session<'a> {
    service: &'static Service,
    stack: &'a Stack,
    registry: &'a Registry,
    instance: String,
    /// None: the instance gets its part of all requests.
    split: Option<Split>,
    /// The requests that the balancer has sent to the instance.
    answered: Cell<u64>,
}

enum End {
    Interrupted,
    /// The program has ended by itself, in words.
    Exited(String),
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = runtime::require().await?;
    let stack = &runtime.stack(&home).await?;
    let registry = &stack.registry().await?;
    let snapshot = registry.snapshot().await?;
    let service = args.service;
    if service.name == MONOLITH && !snapshot.versions(service).is_empty() {
        return Err(failure!(Usage, "the monolith runs already, and always has one instance: mfkill monolith-1 first"));
    }
    let version = free_version(&snapshot, service);
    let instance = format!("{service}-{version}");
    let split = if args.audience.are_empty() {
        None
    } else {
        check_split(&snapshot, service)?;
        Some(args.audience.split(stack, &snapshot, &version).await?)
    };
    let session = Session { service, stack, registry, instance, split, answered: Cell::new(0) };
    let environment = stack
        .environment(service, &session.instance)
        .with("FLACK_VERSION", version)
        .with("FLACK_LISTEN", format!("{}:{}", stack.ports.machine(), args.port));
    env::print(environment.clone(), args.secrets);
    let mut command = match args.command.as_slice() {
        [] => Command::new(programs::own(&service.program())?),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    // In a process group of its own, so that Ctrl-C reaches only this process, which then stops the group.
    command.envs(environment.0).stdin(Stdio::null()).process_group(0);
    session.run((!args.wait).then_some(command)).await
}

/// Returns `dev`, or `dev-2` and so on while instances with these versions run.
fn free_version(snapshot: &Snapshot, service: &Service) -> String {
    let mut versions = (1..).map(|number| if number == 1 { VERSION.to_owned() } else { format!("{VERSION}-{number}") });
    let is_free = |version: &String| !snapshot.instances.contains_key(&format!("{service}-{version}"));
    versions.find(is_free).expect("there are more numbers than instances")
}

/// A split of a `mf dev` that was killed may be replaced. Another one is in use.
fn check_split(snapshot: &Snapshot, service: &Service) -> Result<()> {
    let Some(split) = snapshot.splits.get(service.name) else { return Ok(()) };
    let is_of_dev = split.version == VERSION || split.version.starts_with(&format!("{VERSION}-"));
    if is_of_dev && !snapshot.versions(service).contains_key(&split.version) {
        return Ok(());
    }
    Err(failure!(
        Usage,
        "{service} has a split already: version {} gets {}. Remove it with mfroutes clear {service}, or start mfdev \
         without --header, --cookie, --user and --percent",
        split.version,
        Audience(split)
    ))
}

impl Session<'_> {
    async fn run(&self, command: Option<Command>) -> Result<()> {
        let mut child = match command.map(|mut command| command.spawn()) {
            Some(Err(error)) => return Err(failure!(Unavailable, "the program cannot be started: {error}")),
            Some(Ok(child)) => Some(child),
            None => None,
        };
        let result = self.serve(child.as_mut()).await;
        // Drained before the split is removed: without the split all users would get the instance.
        let stopped = self.stop(child).await;
        let removed = self.remove_split().await;
        let end = result?;
        stopped?;
        removed?;
        let (instance, answered) = (&self.instance, self.answered.get());
        match end {
            End::Interrupted => {
                eprintln!("\nmf: {instance} has left the balancer; it answered {answered} requests");
                Ok(())
            }
            End::Exited(how) => Err(failure!(Internal, "the program of {instance} {how}; its output is above")),
        }
    }

    /// Runs until the program ends or the operator interrupts.
    async fn serve(&self, child: Option<&mut Child>) -> Result<End> {
        // Before the instance registers: else all users would get it for a moment.
        if let Some(split) = &self.split {
            self.registry.put_split(self.service, split).await?;
        }
        let ended = async {
            let Some(child) = child else { return std::future::pending().await };
            match child.wait().await {
                Ok(status) => format!("ended ({status})"),
                Err(error) => format!("cannot be observed: {error}"),
            }
        };
        tokio::select! {
            how = ended => Ok(End::Exited(how)),
            () = interrupted() => Ok(End::Interrupted),
            never = self.report() => match never {},
        }
    }

    /// Prints when the instance is in the balancer, and when it answers the first request.
    async fn report(&self) -> Infallible {
        let instance = &self.instance;
        eprintln!("mf: waiting until {instance} is ready and in the balancer");
        // While etcd or HAProxy does not respond, the next attempt may succeed.
        while !self.registry.is_in_balancer(self.service.name, instance).await.unwrap_or(false) {
            sleep(POLL_INTERVAL).await;
        }
        let part = self.split.as_ref().map_or_else(
            || "its part of all requests".to_owned(),
            |split| format!("{}{}", Audience(split), self.example()),
        );
        eprintln!("mf: {instance} is in the balancer, and gets {part}");
        loop {
            if let Some(answered) = self.count().await
                && self.answered.replace(answered) == 0
                && answered > 0
            {
                eprintln!("mf: {instance} answers requests");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns how many requests the instance has answered; none while HAProxy does not respond.
    async fn count(&self) -> Option<u64> {
        let csv = probe::get(&self.stack.ports.stats_address(), "/stats;csv").await?.body;
        let servers = counters::servers(&csv);
        let of_instance = servers.iter().filter(|server| server.name == self.instance);
        Some(of_instance.map(|server| server.counters.responses).sum())
    }

    /// Returns a request to try, if one header or cookie selects the instance.
    fn example(&self) -> String {
        let split = self.split.as_ref();
        let path = self.service.paths.first().map_or("/", |path| path.trim_start_matches('='));
        let url = format!("{}{path}", self.stack.url());
        let header = split.and_then(|split| split.header.as_ref());
        let cookie = split.and_then(|split| split.cookie.as_ref());
        match (header, cookie) {
            (Some(header), _) => format!(". Try: curl -H '{}: {}' {url}", header.name, header.value),
            (None, Some(cookie)) => format!(". Try: curl -b {}={} {url}", cookie.name, cookie.value),
            (None, None) => String::new(),
        }
    }

    /// Ends the program as the supervisor would, and waits until the instance has left the registry.
    async fn stop(&self, child: Option<Child>) -> Result<()> {
        let instance = &self.instance;
        let Some(mut child) = child else {
            return self.wait_for_program_of_operator().await;
        };
        // None when it has ended.
        if let Some(pid) = child.id() {
            let group = Pid::from_raw(pid.cast_signed());
            eprintln!("\nmf: stopping {instance}; Ctrl-C kills it");
            let _ = killpg(group, Signal::SIGTERM);
            let limit = Duration::from_secs(INSTANCE_STOP_SECONDS_MAX);
            let has_ended = tokio::select! {
                ended = timeout(limit, child.wait()) => ended.is_ok(),
                () = interrupted() => false,
            };
            if !has_ended {
                eprintln!("mf: killing {instance}: it has not stopped");
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait().await;
            }
        }
        let began = Instant::now();
        while self.is_registered().await? {
            if began.elapsed() > LEAVE_TIMEOUT {
                return Err(failure!(Internal, "{instance} is still in the registry; mfps shows it"));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn wait_for_program_of_operator(&self) -> Result<()> {
        if self.is_registered().await? {
            eprintln!("\nmf: stop your program now; Ctrl-C does not wait for it");
            let left = async {
                while self.is_registered().await? {
                    sleep(POLL_INTERVAL).await;
                }
                Ok::<_, Failure>(())
            };
            tokio::select! {
                left = left => left?,
                () = interrupted() => {}
            }
        }
        Ok(())
    }

    async fn is_registered(&self) -> Result<bool> {
        Ok(self.registry.snapshot().await?.instances.contains_key(&self.instance))
    }

    async fn remove_split(&self) -> Result<()> {
        let Some(split) = &self.split else { return Ok(()) };
        self.registry.delete_split_if(self.service, split).await.map_err(|error| {
            failure!(
                Internal,
                "the split of {0} is not removed ({error:#}). Remove it: mfroutes clear {0}",
                self.service
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Instance;

    fn snapshot(version: &str, instances: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for name in instances {
            let value = serde_json::json!({"address": "127.0.0.1:1", "version": version});
            let instance: Instance = serde_json::from_value(value).expect("an instance");
            snapshot.instances.insert((*name).to_owned(), Instance { service: "users".to_owned(), ..instance });
        }
        snapshot
    }

    fn with_split(mut snapshot: Snapshot, version: &str) -> Snapshot {
        let split = serde_json::json!({"version": version, "percentage": 5});
        snapshot.splits.insert("users".to_owned(), serde_json::from_value(split).expect("a split"));
        snapshot
    }

    #[test]
    fn the_version_is_dev_or_the_next_one_that_no_instance_has() {
        let users = Service::named("users");
        assert_eq!(free_version(&snapshot("dev", &["users-1"]), users), "dev");
        assert_eq!(free_version(&snapshot("dev", &["users-dev", "users-dev-3"]), users), "dev-2");
    }

    #[test]
    fn the_split_of_another_version_is_not_replaced_and_one_left_by_mf_dev_is() {
        let users = Service::named("users");
        assert!(check_split(&snapshot("1", &["users-1"]), users).is_ok());
        let of_canary = with_split(snapshot("1", &["users-1"]), "2");
        assert!(check_split(&of_canary, users).expect_err("in use").message.contains("mfroutes clear users"));
        assert!(check_split(&with_split(snapshot("1", &["users-1"]), "dev"), users).is_ok(), "no instance has it");
        assert!(check_split(&with_split(snapshot("dev", &["users-dev"]), "dev"), users).is_err(), "it runs");
    }
}
