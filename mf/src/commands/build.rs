//! `mf build`: all programs of the stack.

use std::process::Command;
use std::time::Instant;

use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::repository;

/// Build every program of the stack
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfbuild              # what mfup runs\n  mfbuild --release    # optimised; run it with MF_PROFILE=release mfup"))]
pub struct Args {
    /// Optimised: slow to build, fast to run
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let mut command = Command::new("cargo");
    // Without the test suite, as bin/mfup does.
    command
        .args(["build", "--workspace", "--exclude", "flack-conformance", "--bins"])
        .current_dir(repository());
    if args.release {
        command.arg("--release");
    }
    let status = command.status().map_err(|error| {
        Failure::unavailable(format!("cargo cannot be started: {error}. Get Rust from https://rustup.rs"))
    })?;
    if !status.success() {
        return Err(Failure::internal("the build failed; cargo says why above"));
    }
    eprintln!("built in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
