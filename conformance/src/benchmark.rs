//! The start and the end of a program that measures a stack.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Runs a measurement with the arguments of the command line. When it is interrupted, it is dropped, which stops its
/// stack. The exit code is 0 if it returns true, else 1; 64 for wrong arguments, 70 if it fails.
pub fn main<A: Parser>(mut runtime: Builder, run: impl AsyncFnOnce(A) -> Result<bool>) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let result = runtime.enable_all().build().context("the runtime cannot be started").and_then(|runtime| {
        runtime.block_on(async {
            let (mut interrupted, mut terminated) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                result = run(arguments) => result,
                _ = interrupted.recv() => bail!("interrupted"),
                _ = terminated.recv() => bail!("interrupted"),
            }
        })
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the measurement failed: {error:#}");
            ExitCode::from(70)
        }
    }
}
