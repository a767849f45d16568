//! The command line: which commands there are, and how each ends.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, build, down, env, events, kill, logs, ps, run, supervise, test, up, verify};
use crate::failure::{Exit, Failure};
use crate::help::EXIT_CODES;

/// Runs, watches and breaks a flack stack on this machine.
///
/// Everything that a stack leaves on disk is in its state folder: `MF_HOME`, or .mf in the repository. Another `MF_HOME` and
/// another port make another stack.
#[derive(Debug, Parser)]
#[command(name = "mf", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Down(down::Args),
    Ps(ps::Args),
    Run(run::Args),
    Kill(kill::Args),
    Logs(logs::Args),
    Env(env::Args),
    Events(events::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Build(build::Args),
    Test(test::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version go to standard output and are no mistake.
            return if error.use_stderr() { Failure::new(Exit::Usage, "").code() } else { ExitCode::SUCCESS };
        }
    };
    // What we write is ours alone, unless said otherwise where it is written.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mf: cannot start: {error}");
            return Failure::internal("").code();
        }
    };
    match runtime.block_on(carry_out(cli.command)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("mf: {failure}");
            failure.code()
        }
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(args) => Box::pin(up::run(args)).await?,
        Command::Down(args) => down::run(args).await?,
        Command::Ps(args) => ps::run(args).await?,
        Command::Run(args) => run::run(args).await?,
        Command::Kill(args) => kill::run(args).await?,
        Command::Logs(args) => logs::run(args).await?,
        Command::Env(args) => env::run(&args)?,
        Command::Events(args) => return events::run(args).await,
        Command::Verify(args) => return verify::run(&args).await,
        Command::Bench(args) => return bench::run(args).await,
        Command::Build(args) => build::run(args).await?,
        Command::Test(args) => return test::run(args).await,
        Command::Supervise(_) => supervise::run().await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_help_with_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "mf {name} says what it does");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("mf{name}")), "mf {name} has an example");
            assert!(help.contains("Exit codes"), "mf {name} tells its exit codes");
        }
    }

    #[test]
    fn the_verifier_is_asked_for_its_own_help() {
        let cli =
            Cli::try_parse_from(["mf", "verify", "delivery", "--help"]).expect("it is for the verifier");
        assert!(matches!(cli.command, Command::Verify(_)));
    }
}
