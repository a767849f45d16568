//! What a process needs in order to run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A process to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Unique within the supervisor: `web-1`.
    pub name: String,
    /// The same for processes that do the same: `web`.
    pub group: String,
    /// What the process is a version of, for people; `None` if its processes have no versions.
    #[serde(default)]
    pub version: Option<String>,
    /// The supervisor stops processes with the highest number first, and those with the same number at the same time.
    pub priority: u8,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Environment,
    /// The part of `env` that only this process has, and not its group. Its replacement gets it, too.
    #[serde(default)]
    pub own_env: Environment,
    pub working_directory: PathBuf,
    pub stop: Stop,
}

/// How a process is asked to stop, and after how many seconds it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub signal: StopSignal,
    pub seconds_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    Terminate,
    Interrupt,
}

impl From<StopSignal> for Signal {
    fn from(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Terminate => Self::SIGTERM,
            StopSignal::Interrupt => Self::SIGINT,
        }
    }
}

/// The complete environment of a process. It inherits nothing from the supervisor.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

impl fmt::Debug for Environment {
    /// Shows names only: values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
