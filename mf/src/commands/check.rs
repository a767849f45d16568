//! `mf check`: runs the checks of the schema, a program of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cargo;
use crate::failure::Result;
use crate::help::examples;
use crate::home::repository;
use crate::infra::postgres::TemporaryServer;
use crate::infra::programs;

const PROGRAM: &str = "check-schema";

/// Check that a change of a database's schema neither breaks the previous version nor locks a table for long
///
/// The first run builds the checks.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfcheck migrations                     # the SQL of all migrations",
    "mfcheck migrations --json",
    "mfcheck previous-version               # the previous version's tests on this version's schema",
    "mfcheck previous-version --from v1.2.0 --without-stacks",
    "mfcheck migrations --help              # all options",
]))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Refuse SQL that breaks the previous version or locks a table for long
    #[command(disable_help_flag = true)]
    Migrations {
        /// Options of the check
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Build the previous version, and run its tests on this version's schema, with a temporary database
    #[command(disable_help_flag = true)]
    PreviousVersion {
        /// Options of the check
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

pub async fn run(args: Args) -> Result<ExitCode> {
    if !cargo::build_program("flack-schema", PROGRAM).await? {
        return Err(failure!(Internal, "the checks cannot be built; cargo printed the errors above"));
    }
    match args.what {
        What::Migrations { options } => execute("migrations", &options, None).await,
        What::PreviousVersion { options } => {
            let is_help = options.iter().any(|option| option == "--help" || option == "-h");
            if is_help {
                return execute("previous-version", &options, None).await;
            }
            let database = TemporaryServer::start().await?;
            let result = execute("previous-version", &options, Some(&database)).await;
            database.stop().await;
            result
        }
    }
}

async fn execute(what: &str, options: &[OsString], database: Option<&TemporaryServer>) -> Result<ExitCode> {
    let mut command = tokio::process::Command::new(programs::own(PROGRAM)?);
    command.arg(what).args(options).env("MF_REPOSITORY", repository());
    if let Some(database) = database {
        command.env("DATABASE_URL", database.url()?);
    }
    cargo::execute(PROGRAM, command).await
}
