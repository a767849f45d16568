//! The words on the control socket: one request a connection, one JSON object a line; replies may come in several lines.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::spec::Spec;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Starts a process; refused when its name is taken.
    Start(Box<Spec>),
    List,
    /// In good order, all at the same time, for good.
    Stop(Vec<String>),
    /// kill -9. `restart: false` takes it off the list as well.
    Kill {
        name: String,
        restart: bool,
    },
    /// Stops everything, from the last tier to the first, then the supervisor.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Started {
        pid: i32,
    },
    Processes(Vec<ProcessStatus>),
    /// One process has ended, in the way that is told; more lines follow.
    Ended(Ended),
    Killed {
        pid: Option<i32>,
    },
    Done,
    Failed(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    pub name: String,
    pub how: String,
    /// It did not end by itself in time.
    pub forced: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub name: String,
    pub service: String,
    pub state: State,
    pub pid: Option<i32>,
    pub restarts: u32,
    /// Of the process that runs now, or ran last.
    pub started: DateTime<Utc>,
    /// How the one before ended.
    pub last_end: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// It ended by itself, and is started again after a pause.
    Restarting,
    /// The same, many times in a row: somebody should look at its log.
    CrashLooping,
    Stopping,
}

impl State {
    pub fn words(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::CrashLooping => "crash looping",
            Self::Stopping => "stopping",
        }
    }
}
