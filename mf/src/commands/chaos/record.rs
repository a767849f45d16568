//! The record of what a run has changed: `chaos.json` in the state folder. It is written before a change, so that the
//! change is undone also when `mf chaos` itself is killed: by `mf chaos restore`, the next `mf chaos`, `mf up` or
//! `mf down`.

use std::fs;
use std::path::PathBuf;

use flack_supervisor::process::Identity;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::runtime::Runtime;

/// A change that has to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A process that gets SIGSTOP, once or many times.
    Stopped { name: String, process: Identity },
    /// A container that is paused, once or many times.
    Paused { name: String },
    /// An instance that was started for a fault.
    Instance { name: String },
}

/// The changes of a run.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    changes: Vec<Change>,
}

impl Record {
    fn path(home: &Home) -> PathBuf {
        home.path().join("chaos.json")
    }

    /// Reads the record of an earlier run. Without one nothing has to be undone.
    pub fn load(home: &Home) -> Result<Self> {
        let path = Self::path(home);
        let changes = home::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, changes })
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Writes a change that is about to be made.
    pub fn add(&mut self, change: Change) -> Result<()> {
        self.changes.push(change);
        home::write_json(&self.path, &self.changes)
    }

    /// Undoes all changes, and returns what it did. Without a runtime, processes continue as orphans do.
    pub async fn restore(&mut self, runtime: Option<&Runtime>) -> Result<Vec<String>> {
        let mut restored = Vec::new();
        let mut instances = Vec::new();
        for change in &self.changes {
            match change {
                Change::Stopped { name, process } if process.is_alive() => {
                    signal(*process, Signal::SIGCONT);
                    restored.push(format!("{name} continues"));
                }
                Change::Paused { name } => {
                    // It fails if the container is not paused at this moment.
                    if let Some(Runtime::Containers(containers)) = runtime
                        && containers.pause(name, false).await.is_ok()
                    {
                        restored.push(format!("{name} continues"));
                    }
                }
                Change::Stopped { .. } => {}
                Change::Instance { name } => instances.push(name.clone()),
            }
        }
        if let Some(runtime) = runtime {
            let listed = runtime.list().await?;
            instances.retain(|name| listed.iter().any(|process| process.name == *name));
            if !instances.is_empty() {
                runtime.stop(instances, |ended| restored.push(format!("{} {}", ended.name, ended.outcome))).await?;
            }
        }
        self.changes.clear();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::cannot_write(&self.path)(error)),
            _ => Ok(restored),
        }
    }
}

/// Signals a process and its children: each process of a stack has a process group of its own.
pub fn signal(process: Identity, signal: Signal) {
    if process.is_alive() {
        // It fails only if the process has just ended.
        let _ = killpg(Pid::from_raw(process.pid), signal);
    }
}
