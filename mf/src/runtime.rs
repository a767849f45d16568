//! The runtime of a stack: processes of a supervisor on this machine, or containers of `docker-compose.yml`. Commands
//! operate both through [`Runtime`].
//!
//! Owns what differs: how a stack is found, how an instance is started, stopped and killed, where its log is, and what
//! a version is. Leaves to others: the processes' supervisor (`supervisor`), and the start of a whole stack
//! (`commands/up`).

pub mod compose;
pub mod containers;
mod images;
mod instances;
mod project;

use std::collections::BTreeMap;

use clap::ValueEnum;
use flack_common::config::parse_version;
use flack_common::registry::InstanceEntry;
use flack_supervisor::{Client, Ended, ProcessStatus};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub use containers::Containers;

use crate::builds::{self, Build};
use crate::failure::{Exit, Failure, Result};
use crate::home::Home;
use crate::logs;
use crate::stack::{Launch, Stack};
use crate::supervisor;

const VARIABLE: &str = "MF_RUNTIME";

/// Where a stack runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Processes on this machine, which a supervisor starts
    Process,
    /// Containers of docker-compose.yml
    Docker,
}

impl Kind {
    /// Returns what `MF_RUNTIME` says; none if it is not set.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(None) };
        let value = value.to_string_lossy();
        Self::from_str(&value, false)
            .map(Some)
            .map_err(|_| failure!(Usage, "{VARIABLE} is `{value}`; possible values are process and docker"))
    }
}

/// A running stack.
#[derive(Debug, Clone)]
pub enum Runtime {
    Processes(Client),
    Containers(Containers),
}

/// Returns the state folder of the stack that the environment selects, and its runtime if it runs.
///
/// Without `MF_RUNTIME`, a stack of processes has priority. `MF_HOME` names one, so then containers are not searched.
pub async fn find() -> Result<(Home, Option<Runtime>)> {
    let home = Home::from_environment()?;
    let kind = Kind::from_environment()?;
    if kind != Some(Kind::Docker)
        && let Some(client) = supervisor::find(&home).await?
    {
        return Ok((home, Some(Runtime::Processes(client))));
    }
    let containers = match kind {
        Some(Kind::Process) => None,
        Some(Kind::Docker) => Containers::find(false).await?,
        None if Home::is_chosen() => None,
        None => find_any().await?,
    };
    match containers {
        Some(containers) => Ok((containers.home(&home)?, Some(Runtime::Containers(containers)))),
        None => Ok((home, None)),
    }
}

/// Several stacks are a mistake of the operator; without an engine there is none.
async fn find_any() -> Result<Option<Containers>> {
    match Containers::find(false).await {
        Err(failure) if failure.exit == Exit::Unavailable => Ok(None),
        result => result,
    }
}

/// The same, for commands that need a running stack.
pub async fn require() -> Result<(Home, Runtime)> {
    match find().await? {
        (home, Some(runtime)) => Ok((home, runtime)),
        (home, None) => Err(not_running(&home)?),
    }
}

/// Returns the stack, also when it does not run as processes: its data and settings are in the state folder.
pub async fn open() -> Result<Stack> {
    match find().await? {
        (home, Some(runtime)) => runtime.stack(&home).await,
        (home, None) if Kind::from_environment()? == Some(Kind::Docker) => Err(not_running(&home)?),
        (home, None) => Stack::open(&home),
    }
}

pub fn not_running(home: &Home) -> Result<Failure> {
    if Kind::from_environment()? == Some(Kind::Docker) {
        return Ok(failure!(
            Unavailable,
            "no stack runs in containers. Start one: mfup --runtime docker, or docker-compose up -d"
        ));
    }
    Ok(supervisor::not_running(home))
}

impl Runtime {
    /// Returns the stack with its addresses and credentials.
    pub async fn stack(&self, home: &Home) -> Result<Stack> {
        match self {
            Self::Processes(_) => Stack::open(home),
            Self::Containers(containers) => containers.stack(home).await,
        }
    }

    /// Returns the variables with which another `mf` operates the same stack, besides those of this process.
    pub fn environment(&self, home: &Home) -> Vec<(&'static str, String)> {
        match self {
            Self::Processes(_) => vec![("MF_HOME", home.path().display().to_string())],
            Self::Containers(containers) => {
                vec![(VARIABLE, "docker".to_owned()), (containers::PROJECT_VARIABLE, containers.project.clone())]
            }
        }
    }

    /// Returns the processes that run or are restarted. In containers, those of `docker-compose.yml` except the steps
    /// of the start, which end by themselves.
    pub async fn list(&self) -> Result<Vec<ProcessStatus>> {
        match self {
            Self::Processes(client) => Ok(client.list().await?),
            Self::Containers(containers) => containers.list().await,
        }
    }

    /// Starts an instance.
    pub async fn start(&self, stack: &Stack, launch: &Launch) -> Result<()> {
        match self {
            Self::Processes(client) => Ok(client.start(stack.instance(launch)?).await.map(drop)?),
            Self::Containers(containers) => containers.start(launch, None).await,
        }
    }

    /// Stops processes as their service ends them, and removes them. Calls `ended` for each as soon as it has ended.
    pub async fn stop(&self, names: Vec<String>, ended: impl FnMut(Ended)) -> Result<()> {
        match self {
            Self::Processes(client) => Ok(client.stop(names, ended).await?),
            Self::Containers(containers) => containers.stop(names, ended).await,
        }
    }

    /// Kills a process and returns its pid; none if it was not running.
    pub async fn kill(&self, name: &str, restart: bool) -> Result<Option<i32>> {
        match self {
            Self::Processes(client) => Ok(client.kill(name, restart).await?),
            Self::Containers(containers) => containers.kill(name, restart).await,
        }
    }

    /// Stops a process with its connections open, or lets it continue.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<()> {
        match self {
            Self::Processes(client) => {
                let process = client.list().await?.into_iter().find(|process| process.name == name);
                let pid = process.and_then(|process| process.pid);
                let pid = pid.ok_or_else(|| failure!(Unavailable, "{name} does not run"))?;
                let signal = if paused { Signal::SIGSTOP } else { Signal::SIGCONT };
                // Each process of a stack has a process group of its own.
                killpg(Pid::from_raw(pid), signal)
                    .map_err(|error| failure!(Internal, "{name} (pid {pid}) cannot get {signal}: {error}"))
            }
            Self::Containers(containers) => containers.pause(name, paused).await,
        }
    }

    /// Returns the last lines of a process's log, formatted.
    pub async fn tail(&self, home: &Home, name: &str, count: usize) -> Vec<String> {
        match self {
            Self::Processes(_) => logs::tail(&home.log(name), count),
            // The reason to read a log is another problem, which is reported anyway.
            Self::Containers(containers) => {
                logs::formatted(&containers.last_lines(name, count).await.unwrap_or_default())
            }
        }
    }

    /// Returns a version: a build in the state folder, or an image.
    pub async fn build(&self, home: &Home, version: &str) -> Result<Build> {
        parse_version(version).map_err(|why| failure!(Usage, "`{version}` is not a version: {why}"))?;
        match self {
            Self::Processes(_) => builds::find(home, version),
            Self::Containers(containers) => containers.build(version).await,
        }
    }

    /// Replaces the addresses that instances have registered by those that this machine reaches: an instance in a
    /// container registers a name that only other containers resolve.
    pub fn reachable(&self, mut instances: BTreeMap<String, InstanceEntry>) -> BTreeMap<String, InstanceEntry> {
        for entry in instances.values_mut() {
            entry.address = self.address(&entry.address);
        }
        instances
    }

    /// The same for one address.
    pub fn address(&self, registered: &str) -> String {
        match self {
            Self::Processes(_) => registered.to_owned(),
            Self::Containers(containers) => containers.address(registered),
        }
    }
}
