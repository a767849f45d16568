//! `mf build`: all programs of the stack.

use std::time::Instant;

use crate::cargo;
use crate::failure::Result;
use crate::help::examples;

/// Build every program of the stack
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfbuild              # what mfup runs",
    "mfbuild --release    # optimised; run it with MF_PROFILE=release mfup",
]))]
pub struct Args {
    /// Optimised: slow to build, fast to run
    #[arg(long)]
    release: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let began = Instant::now();
    let mut arguments = cargo::BUILD_PROGRAMS.to_vec();
    if args.release {
        arguments.push("--release");
    }
    if !cargo::run(&arguments).await? {
        return Err(failure!(Internal, "the build failed; cargo printed the errors above"));
    }
    eprintln!("built in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
