//! `mf verify`: hands over to the verifier, which is a program of its own: it knows the app's doors and nothing of `mf`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::home::{Home, repository};
use crate::infra::programs;
use crate::stack::Stack;
use crate::supervisor::Client;

const PROGRAM: &str = "verify-delivery";

/// Prove that every acknowledged message reaches every socket once and in order, also while processes are killed
///
/// Posts messages at a rate, listens on many sockets, and compares afterwards its own records of both, and the history.
/// Ends with exit code 1 when anything was lost, doubled or out of order.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfverify delivery --sockets 100 --posters 50 --rate 200 --seconds 60\n  mfverify delivery --seconds 30 --dropping 20 --kill websocket --kill nats --kill etcd\n  mfverify delivery --over both --both-sides --json\n  mfverify delivery --help          # all options"))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// No message is lost, doubled or out of order; its own --help shows all options
    #[command(disable_help_flag = true)]
    Delivery {
        /// Options of the verifier
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let What::Delivery { options } = &args.what;
    let asks_help = options.iter().any(|option| option == "--help" || option == "-h");
    let names_stack = options.iter().any(|option| option.to_string_lossy().starts_with("--url"));
    let home = Home::from_environment()?;
    let stack = if asks_help || names_stack {
        None
    } else {
        let stack = Stack::open(&home)?;
        // Before the build, which may take minutes.
        Client::require(&home).await?;
        Some(stack)
    };
    build()?;
    let program = programs::own(PROGRAM)
        .ok_or_else(|| Failure::unavailable(format!("{PROGRAM} is not built. Build it: mfbuild")))?;
    let mut command = Command::new(program);
    if let Some(stack) = stack {
        // Before the options, so that whoever reads the process list sees which stack it is.
        command.args(["--url", &stack.url()]).env("MF_HOME", home.path());
    }
    if let Ok(this) = std::env::current_exe() {
        command.env("FLACK_MF", this);
    }
    let error = command.args(options).exec();
    Err(Failure::new(Exit::Internal, format!("{PROGRAM} cannot be started: {error}")))
}

/// The test suite is not built with the stack; cargo knows whether something is to be done.
fn build() -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--package", "flack-conformance", "--bin", PROGRAM])
        .current_dir(repository())
        .stdout(std::io::stderr());
    let is_release = std::env::current_exe()
        .is_ok_and(|this| this.parent().is_some_and(|folder| folder.file_name() == Some("release".as_ref())));
    if is_release {
        command.arg("--release");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::internal("the verifier cannot be built; cargo says why above")),
        // Without cargo, what was built before will do.
        Err(_) => Ok(()),
    }
}
