//! Cargo, run in the repository, or in a checkout of another commit.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use tokio::process::Command;

use crate::failure::{Failure, Result};
use crate::home::repository;
use crate::infra::programs;
use crate::signals::interrupted;

/// The stack's programs and the verifier, without the checks, which have dependencies of their own, and without the
/// program for containers, which contains all others. `bin/mf` builds the same.
pub const BUILD_PROGRAMS: &[&str] = &[
    "build",
    "--workspace",
    "--exclude",
    "flack-schema",
    "--exclude",
    "flack-handover-model",
    "--exclude",
    "flack-program",
    "--bins",
];

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(repository()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs cargo, and returns whether it succeeded. Cargo prints its errors itself.
pub async fn run(arguments: &[&str]) -> Result<bool> {
    succeeds(command(arguments)).await
}

pub async fn succeeds(mut command: Command) -> Result<bool> {
    command.status().await.map(|status| status.success()).map_err(|error| cannot_run(&error))
}

/// Returns the folder of cargo's results, which has the folders `debug` and `release`.
pub fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    // A relative path counts from where cargo runs.
    repository().join(folder)
}

/// Builds a program that is not a part of the stack, beside this one. Returns whether cargo succeeded.
pub async fn build_program(package: &str, program: &str) -> Result<bool> {
    let this = programs::mf()?;
    let is_release = this.parent().is_some_and(|folder| folder.file_name() == Some("release".as_ref()));
    let mut arguments = vec!["build", "--package", package, "--bin", program];
    arguments.extend(is_release.then_some("--release"));
    run(&arguments).await
}

/// Runs a program until it ends, or until mf is interrupted. Returns its exit code.
pub async fn execute(program: &str, mut command: Command) -> Result<ExitCode> {
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure!(Internal, "{program} cannot be started: {error}"))?;
    let status = tokio::select! {
        status = child.wait() => status.map_err(|error| cannot_run(&error))?,
        () = interrupted() => return Err(failure!(Interrupted, "interrupted")),
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).ok_or_else(|| failure!(Internal, "{program} was stopped by a signal"))
}

pub fn cannot_run(error: &std::io::Error) -> Failure {
    failure!(Unavailable, "cargo cannot be run: {error}. Install Rust: https://rustup.rs")
}
