//! The command line: all commands, and their exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    bench, build, chaos, check, completions, container, dev, doctor, down, env, events, kill, logs, man, migrate, ps,
    restart, routes, run, scale, supervise, test, up, upgrade, verify,
};
use crate::failure::Failure;
use crate::help::EXIT_CODES;

/// Set by `bin/mf` before it builds: only the arguments are checked.
const CHECK_ONLY: &str = "MF_CHECK_ARGUMENTS";

/// Run, observe and break a flack stack on this machine
///
/// Each command also has a short name in bin/: `mfup` is `mf up`. `mf help <command>` explains it.
///
/// Everything that a stack writes to disk is in its state folder: `MF_HOME`, or .mf in the repository. For a second
/// stack, set another `MF_HOME` and another port.
#[derive(Debug, Parser)]
#[command(name = "mf", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Commands that are only used once, and have no script in `bin/`.
pub const WITHOUT_SHORT_NAME: [&str; 2] = ["completions", "man"];

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Down(down::Args),
    Ps(ps::Args),
    Run(run::Args),
    Scale(scale::Args),
    Restart(restart::Args),
    Routes(routes::Args),
    Upgrade(upgrade::Args),
    Migrate(migrate::Args),
    Kill(kill::Args),
    Logs(logs::Args),
    Env(env::Args),
    Dev(dev::Args),
    Events(events::Args),
    Verify(verify::Args),
    Chaos(chaos::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Check(check::Args),
    Build(build::Args),
    Test(test::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
    #[command(hide = true)]
    Container(container::Args),
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
    if std::env::var_os(CHECK_ONLY).is_some() {
        return ExitCode::SUCCESS;
    }
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

/// Returns the command `mf`, and each command under its short name: `mfup`.
pub fn all_names() -> Vec<clap::Command> {
    let mf = Cli::command();
    let short = |command: &clap::Command| {
        // clap takes names that live as long as the program.
        let name: &'static str = format!("mf{}", command.get_name()).leak();
        command.clone().name(name).bin_name(name).display_name(name)
    };
    let has_short_name =
        |command: &&clap::Command| !command.is_hide_set() && !WITHOUT_SHORT_NAME.contains(&command.get_name());
    let short: Vec<clap::Command> = mf.get_subcommands().filter(has_short_name).map(short).collect();
    std::iter::once(mf.clone()).chain(short).collect()
}

async fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(args) => Box::pin(up::run(args)).await?,
        Command::Down(args) => down::run(args).await?,
        Command::Ps(args) => ps::run(args).await?,
        Command::Run(args) => run::run(args).await?,
        Command::Scale(args) => scale::run(args).await?,
        Command::Restart(args) => restart::run(args).await?,
        Command::Routes(args) => routes::run(args).await?,
        Command::Upgrade(args) => return Box::pin(upgrade::run(args)).await,
        Command::Migrate(args) => return Box::pin(migrate::run(args)).await,
        Command::Kill(args) => kill::run(args).await?,
        Command::Logs(args) => logs::run(args).await?,
        Command::Env(args) => env::run(&args).await?,
        Command::Dev(args) => Box::pin(dev::run(args)).await?,
        Command::Events(args) => return events::run(args).await,
        Command::Verify(args) => return verify::run(args).await,
        Command::Chaos(args) => return Box::pin(chaos::run(args)).await,
        Command::Doctor(args) => return doctor::run(&args).await,
        Command::Bench(args) => return bench::run(args).await,
        Command::Check(args) => return check::run(args).await,
        Command::Build(args) => build::run(args).await?,
        Command::Test(args) => return test::run(args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args)?,
        Command::Supervise(_) => supervise::run().await?,
        Command::Container(args) => container::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_with_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let prefix = if WITHOUT_SHORT_NAME.contains(&name) { "mf " } else { "mf" };
            assert!(command.get_about().is_some(), "mf {name} has a description");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("{prefix}{name}")), "mf {name} has an example");
            assert!(help.contains("Exit codes"), "mf {name} lists its exit codes");
        }
    }
}
