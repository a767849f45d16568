//! `mf migrate`: moves parts between the monolith and their services.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::cargo;
use crate::failure::Result;
use crate::help::examples;
use crate::infra::programs;

const MODEL: &str = "flack-handover-model";

/// Show how a part moves from the monolith to its service and back
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfmigrate model                        # the model of a hand-over, in a browser",
    "mfmigrate model --listen 127.0.0.1:3000",
]))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the states of a hand-over, and what can happen in each of them, in a browser
    ///
    /// The first run builds the model. It prints its address, and ends with Ctrl-C. Everything in it is decided by the
    /// functions that the programs use.
    Model {
        /// Where the browser connects; port 0 is a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let What::Model { listen } = args.what;
    if !cargo::build_program(MODEL, MODEL).await? {
        return Err(failure!(Internal, "the model cannot be built; cargo printed the errors above"));
    }
    let mut command = tokio::process::Command::new(programs::own(MODEL)?);
    command.arg(listen.to_string());
    cargo::execute(MODEL, command).await
}
