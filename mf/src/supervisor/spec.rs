//! What the supervisor needs to know to run a process.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// Started from low to high, stopped from high to low; those of one tier at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Store,
    Agent,
    Balancer,
    Instance,
}

impl Tier {
    pub const LAST_TO_FIRST: [Self; 4] = [Self::Instance, Self::Balancer, Self::Agent, Self::Store];
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// `users-1`, `postgres`
    pub name: String,
    /// `users`, `postgres`
    pub service: String,
    pub tier: Tier,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Environment,
    pub folder: PathBuf,
    pub stop: Stop,
}

/// Which signal asks this program to end in good order, and how long that may take before it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub signal: StopSignal,
    pub seconds_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    Terminate,
    /// PostgreSQL's "fast": roll back what is open, write everything down, end. NATS ends with 0 on this one only.
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

/// Everything the process finds in its environment. It is given nothing else: what the operator's shell has set is not its business.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(pub BTreeMap<String, String>);

/// What comes through from the operator's shell: where programs are, in which language they speak, what is to be logged.
const INHERITED: [&str; 9] =
    ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];
const INHERITED_PREFIX: &str = "OTEL_";

impl Environment {
    pub fn inherited() -> Self {
        let passes = |name: &str| INHERITED.contains(&name) || name.starts_with(INHERITED_PREFIX);
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| passes(name))
                .collect(),
        )
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

impl fmt::Debug for Environment {
    /// Names only: values hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
