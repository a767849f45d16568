//! The stack's supervisor: how `mf` finds and starts it, and what all of its processes have in common.

use std::path::PathBuf;

use flack_supervisor::{Client, Environment, Spec, Stop, StopSignal};
use tokio::process::{Child, Command};

use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::infra::programs;

/// Priorities in the supervisor: instances stop first, while balancer and registry still let them drain.
pub mod priority {
    pub const STORE: u8 = 0;
    pub const AGENT: u8 = 1;
    pub const BALANCER: u8 = 2;
    pub const INSTANCE: u8 = 3;
}

/// Variables of the operator's shell that processes inherit.
const INHERITED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    // The host names that the balancer accepts; haproxy/README.md.
    "FLACK_PUBLIC_HOSTS",
];
/// The limits of the balancer and of the services.
const INHERITED_PREFIX: &str = "LIMIT_";

/// Returns the environment that every process of a stack gets.
pub fn inherited_environment() -> Environment {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_inherited(name));
    Environment(variables.collect())
}

fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with(INHERITED_PREFIX)
}

/// Returns the specification of a process that is the only one of its group and needs no arguments.
pub fn spec(name: &str, priority: u8, program: PathBuf, working_directory: PathBuf) -> Spec {
    Spec {
        name: name.to_owned(),
        group: name.to_owned(),
        version: None,
        priority,
        program,
        args: Vec::new(),
        env: inherited_environment(),
        own_env: Environment::default(),
        working_directory,
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 10 },
    }
}

/// Returns the client of the stack's supervisor; `None` if the stack does not run.
pub async fn find(home: &Home) -> Result<Option<Client>> {
    if !home.exists() {
        return Ok(None);
    }
    Ok(Client::find(&home.supervisor()?).await)
}

/// The same, for commands that need a running stack.
pub async fn require(home: &Home) -> Result<Client> {
    find(home).await?.ok_or_else(|| not_running(home))
}

pub fn not_running(home: &Home) -> Failure {
    let home = home.path().display();
    failure!(Unavailable, "the stack in {home} does not run. Start it with mfup, or set MF_HOME to another stack.")
}

/// Starts the stack's supervisor as `mf supervise`.
pub async fn start(home: &Home) -> Result<(Client, Child)> {
    let mut command = Command::new(programs::mf()?);
    command.arg("supervise").env("MF_HOME", home.path());
    Ok(Client::spawn(&home.supervisor()?, command).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_public_hosts_of_the_shell_reach_all_processes_and_other_variables_do_not() {
        for name in ["LIMIT_REQUESTS_PER_10S", "LIMIT_CREDENTIALS_PER_10S", "FLACK_PUBLIC_HOSTS"] {
            assert!(is_inherited(name), "{name}");
        }
        for name in ["DATABASE_URL", "MY_LIMIT_X", "FLACK_LISTEN", "HTTP_PROXY", "OTEL_SERVICE_NAME"] {
            assert!(!is_inherited(name), "{name}");
        }
    }
}
