//! `mf verify`: runs the verifier, a program of its own that only uses the public and the internal listener.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::cargo;
use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::infra::programs;
use crate::stack::Stack;
use crate::supervisor;

const PROGRAM: &str = "verify-delivery";

/// Verify that every acknowledged message reaches every websocket once and in order, even while processes are killed
///
/// Posts messages at a rate, receives them on many websockets, and compares both with each other and with the history.
/// Exit code 1 means that a message was lost, duplicated or out of order.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfverify delivery --sockets 100 --posters 50 --rate 200 --seconds 60",
    "mfverify delivery --seconds 30 --dropping 20 --kill websocket --kill nats --kill etcd",
    "mfverify delivery --over both --both-sides --json",
    "mfverify delivery --help          # all options",
]))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// No message is lost, duplicated or out of order; its own --help shows all options
    #[command(disable_help_flag = true)]
    Delivery {
        /// Options of the verifier
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let What::Delivery { options } = &args.what;
    let is_help = options.iter().any(|option| option == "--help" || option == "-h");
    let names_stack = options.iter().any(|option| option.to_string_lossy().starts_with("--url"));
    let home = Home::from_environment()?;
    let stack = if is_help || names_stack {
        None
    } else {
        let stack = Stack::open(&home)?;
        // Before the build, which may take minutes.
        supervisor::require(&home).await?;
        Some(stack)
    };
    // The test suite is not built with the stack. Without cargo, a verifier that was built earlier is used.
    if let Ok(false) = cargo::build_program("flack-conformance", PROGRAM).await {
        return Err(failure!(Internal, "the verifier cannot be built; cargo printed the errors above"));
    }
    let mut command = Command::new(programs::own(PROGRAM)?);
    if let Some(stack) = stack {
        command.args(["--url", &stack.url()]).env("MF_HOME", home.path());
    }
    let error = command.env("FLACK_MF", programs::mf()?).args(options).exec();
    Err(failure!(Internal, "{PROGRAM} cannot be started: {error}"))
}
