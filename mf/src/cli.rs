//! The command line: all commands, and their exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, build, chaos, check, doctor, down, env, events, kill, logs, ps, run, supervise, test, up, verify,
};
use crate::failure::Failure;
use crate::help::EXIT_CODES;

/// Run, observe and break a flack stack on this machine
///
/// Everything that a stack writes to disk is in its state folder: `MF_HOME`, or .mf in the repository. For a second
/// stack, set another `MF_HOME` and another port.
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
    Chaos(chaos::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Check(check::Args),
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
            // Help and version are no errors.
            return if error.use_stderr() { failure!(Usage, "").code() } else { ExitCode::SUCCESS };
        }
    };
    // New files are private by default.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mf: the runtime cannot be started: {error}");
            return failure!(Internal, "").code();
        }
    };
    match runtime.block_on(execute(cli.command)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("mf: {failure}");
            failure.code()
        }
    }
}

async fn execute(command: Command) -> Result<ExitCode, Failure> {
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
        Command::Chaos(args) => return Box::pin(chaos::run(args)).await,
        Command::Doctor(args) => return doctor::run(&args).await,
        Command::Bench(args) => return bench::run(args).await,
        Command::Check(args) => return check::run(args).await,
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
            assert!(command.get_about().is_some(), "mf {name} has a description");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("mf{name}")), "mf {name} has an example");
            assert!(help.contains("Exit codes"), "mf {name} lists its exit codes");
        }
    }

    #[test]
    fn help_after_verify_delivery_is_passed_to_the_verifier() {
        let cli = Cli::try_parse_from(["mf", "verify", "delivery", "--help"]).expect("an argument of the verifier");
        assert!(matches!(cli.command, Command::Verify(_)));
    }
}
