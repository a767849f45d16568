//! Faults that are injected during a run: a process is killed, frozen or replaced.

use std::{
    fmt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{sleep, sleep_until};

use super::Progress;
use crate::stack::Operator;

/// Longer than a lease, and longer than PostgreSQL keeps the session of a frozen leader: a standby must take over.
const FREEZE_TIME: Duration = Duration::from_secs(8);
/// How long the command may take until the process continues.
const CONTINUE_TIME: Duration = Duration::from_millis(500);
/// The exit code of a command of `mf` that was interrupted.
const INTERRUPTED: i32 = 130;
/// Stands for the instance that publishes the posted messages at that moment.
const RELAY: &str = "relay";
/// The services that may publish posted messages, in the order in which their relays are checked.
const OWNERS: [&str; 2] = ["messages", "monolith"];

/// A fault and its target: an instance (`users-1`), a service (`users`: one of its instances), another process
/// (`nats`), or `relay`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// `kill -9`. The supervisor restarts the process.
    Kill(String),
    /// SIGSTOP or `docker pause` for a while: its connections stay open, as those of a paused machine do.
    Freeze(String),
    /// Another instance of the service is started, then this one is drained and stopped, as in an upgrade.
    Replace(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(process) => write!(f, "{process} killed"),
            Self::Freeze(process) => write!(f, "{process} frozen for {} s", FREEZE_TIME.as_secs()),
            Self::Replace(process) => write!(f, "{process} replaced"),
        }
    }
}

/// Injects the faults one after the other, evenly over the time, and returns their descriptions.
pub async fn inject(operator: Operator, faults: Vec<Fault>, time: Duration, progress: Progress) -> Result<Vec<String>> {
    let start = tokio::time::Instant::now();
    let steps = u32::try_from(faults.len() + 1).context("too many faults")?;
    let mut done = Vec::new();
    for (step, fault) in (1..).zip(faults) {
        sleep_until(start + time * step / steps).await;
        let operator = operator.clone();
        let (fault, frozen) = tokio::task::spawn_blocking(move || begin(&operator, fault)).await??;
        progress.note(format!("after {:.0} s: {fault}", start.elapsed().as_secs_f64()));
        if let Some(frozen) = frozen {
            sleep((FREEZE_TIME + CONTINUE_TIME).saturating_sub(frozen.since.elapsed())).await;
        }
        done.push(fault.to_string());
    }
    Ok(done)
}

fn begin(operator: &Operator, fault: Fault) -> Result<(Fault, Option<Frozen>)> {
    match fault {
        Fault::Kill(process) => {
            let process = concrete(operator, process)?;
            operator.mf_ok(&["kill", &process, "--hard"])?;
            Ok((Fault::Kill(process), None))
        }
        Fault::Freeze(process) => {
            let process = concrete(operator, process)?;
            let seconds = FREEZE_TIME.as_secs().to_string();
            let command = operator.command(&["kill", &process, "--freeze", &seconds])?.stdout(Stdio::null()).spawn()?;
            Ok((Fault::Freeze(process), Some(Frozen { command, since: Instant::now() })))
        }
        Fault::Replace(process) => {
            let process = concrete(operator, process)?;
            let ps = operator.ps()?;
            let found = running(&ps, &process)?;
            let instance = found["name"].as_str().context("a process without a name")?;
            operator.mf_ok(&["run", found["service"].as_str().context("a process without a service")?])?;
            operator.mf_ok(&["kill", instance])?;
            Ok((Fault::Replace(instance.to_owned()), None))
        }
    }
}

fn concrete(operator: &Operator, process: String) -> Result<String> {
    if process != RELAY {
        return Ok(process);
    }
    let lag: Value = serde_json::from_str(&operator.mf_ok(&["events", "lag", "--json"])?)?;
    let owners = lag["owners"].as_array().context("no owners")?;
    let relay = OWNERS.iter().find_map(|name| {
        owners.iter().find(|owner| owner["name"] == *name).and_then(|owner| owner["instance"].as_str())
    });
    Ok(relay.context("no instance relays messages; see mf events lag")?.to_owned())
}

fn running<'a>(ps: &'a Value, process: &str) -> Result<&'a Value> {
    let processes = ps["processes"].as_array().context("no processes")?;
    let is_it = |found: &&Value| found["name"] == process || found["service"] == process;
    let found = processes.iter().filter(|found| found["state"] == "running").find(is_it);
    found.with_context(|| format!("{process} is not running"))
}

/// A frozen process. It continues when this is dropped, also when the run fails.
struct Frozen {
    command: Child,
    since: Instant,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // After the time it has ended; before, it lets the process continue when it is interrupted.
        if matches!(self.command.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(self.command.id().to_string()).status();
        }
        match self.command.wait() {
            Ok(status) if status.success() || status.code() == Some(INTERRUPTED) => {}
            other => eprintln!("a process may still be frozen: {other:?}; see mf doctor"),
        }
    }
}
