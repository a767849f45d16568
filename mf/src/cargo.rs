//! Cargo, run in the repository.

use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{Failure, Result};
use crate::home::repository;

/// The stack's programs, without the test suite, which has large dependencies of its own. `bin/mf` builds the same.
pub const BUILD_PROGRAMS: &[&str] = &["build", "--workspace", "--exclude", "flack-conformance", "--bins"];

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(repository()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs cargo, and returns whether it succeeded. Cargo prints its errors itself.
pub async fn run(arguments: &[&str]) -> Result<bool> {
    command(arguments).status().await.map(|status| status.success()).map_err(|error| cannot_run(&error))
}

pub fn cannot_run(error: &std::io::Error) -> Failure {
    failure!(Unavailable, "cargo cannot be run: {error}. Install Rust: https://rustup.rs")
}
