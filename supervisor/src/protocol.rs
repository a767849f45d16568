//! Messages on the control socket: one request per connection, one JSON object per line. A request may have several
//! replies.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::spec::{Environment, Spec};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Starts a process, unless one with its name exists.
    Start(Box<Spec>),
    List,
    /// Stops processes and removes them, all at the same time.
    Stop(Vec<String>),
    /// Sends SIGKILL. `restart: false` also removes the process.
    Kill {
        name: String,
        restart: bool,
    },
    /// Stops every process, in order of priority, then the supervisor.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Started {
        pid: i32,
    },
    Processes(Vec<ProcessStatus>),
    /// One process has ended; more replies follow.
    Ended(Ended),
    Killed {
        pid: Option<i32>,
    },
    Done,
    Failed(String),
}

/// How a process ended that was stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    pub name: String,
    /// For people: `stopped`, `ended with exit code 3`.
    pub outcome: String,
    /// It was killed because it had not ended in time.
    pub forced: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub name: String,
    pub group: String,
    /// From the process's [`Spec`].
    #[serde(default)]
    pub version: Option<String>,
    /// From the process's [`Spec`].
    #[serde(default)]
    pub own_env: Environment,
    pub state: State,
    pub pid: Option<i32>,
    pub restarts: u32,
    /// When the current process started, or the last one.
    pub started: DateTime<Utc>,
    /// How the previous process ended, or why it could not be started.
    pub last_end: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// It exited, and is restarted after a pause.
    Restarting,
    /// The same, many times in a row.
    CrashLooping,
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::CrashLooping => "crash looping",
            Self::Stopping => "stopping",
        })
    }
}
