//! `check-schema`: what `bin/mfcheck` runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use flack_schema::{
    lint::{self, Report},
    previous::Previous,
    released,
};

/// `EX_USAGE` and `EX_UNAVAILABLE` of sysexits.h.
const EXIT_CODE_USAGE: u8 = 64;
const EXIT_CODE_UNAVAILABLE: u8 = 69;

const EXIT_CODES: &str = "\
Exit codes:
  0    every check passed
  1    a migration is refused, or a test of the previous version failed
  64   usage: an option that does not exist
  69   unavailable: a folder, git or cargo is missing";

/// Check that a change of a database's schema neither breaks the previous version nor locks a table for long
#[derive(Debug, Parser)]
#[command(name = "mfcheck", bin_name = "mfcheck", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The SQL of every migration
    ///
    /// A statement that is refused can be allowed by a comment before it, with a reason:
    /// `-- mfcheck allow ban-drop-column: no version since 1.4 reads it`.
    Migrations {
        /// The result as JSON
        #[arg(long)]
        json: bool,
        /// The folder that has one folder of migrations for each database [default: migrations]
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// The previous version's tests, on this version's schema. The first run builds for some minutes
    PreviousVersion {
        /// A commit or tag [default: the last release tag, or else the commit before the newest change of the schema]
        #[arg(long)]
        from: Option<String>,
        /// Only the services alone, not the tests that start whole stacks
        #[arg(long)]
        without_stacks: bool,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help is no error.
            return ExitCode::from(if error.use_stderr() { EXIT_CODE_USAGE } else { 0 });
        }
    };
    // `mf` names the repository; otherwise the current folder is in it.
    let repository = std::env::var_os("MF_REPOSITORY").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let result = match cli.what {
        What::Migrations { json, folder } => migrations(&repository, folder, json),
        What::PreviousVersion { from, without_stacks } => previous(&repository, from.as_deref(), !without_stacks),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mfcheck: {error:#}");
            ExitCode::from(EXIT_CODE_UNAVAILABLE)
        }
    }
}

/// Prints the result, and returns whether all migrations passed.
fn migrations(repository: &Path, folder: Option<PathBuf>, json: bool) -> anyhow::Result<bool> {
    let is_ours = folder.is_none();
    let mut report = lint::check(&folder.unwrap_or_else(|| repository.join(released::MIGRATIONS)))?;
    if is_ours {
        released::check(repository, &mut report);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(report.findings.is_empty())
}

fn print(report: &Report) {
    for finding in &report.findings {
        println!("{}:{}: {} ({})", finding.file, finding.line, finding.rule, finding.problem);
        if !finding.statement.is_empty() {
            println!("    {}", finding.statement);
        }
        println!("    why:     {}", finding.why);
        println!("    instead: {}\n", finding.instead);
    }
    for exemption in &report.exemptions {
        let (file, line) = (&exemption.file, exemption.line);
        println!("{file}:{line}: allowed: {}: {}", exemption.rules.join(", "), exemption.reason);
    }
    for note in &report.notes {
        println!("note: {note}");
    }
    println!(
        "{} migrations: {} refused statements, {} exemptions",
        report.files,
        report.findings.len(),
        report.exemptions.len()
    );
}

/// Returns whether the previous version's tests pass.
fn previous(repository: &Path, version: Option<&str>, stacks: bool) -> anyhow::Result<bool> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let Some(previous) = Previous::prepare(repository, &repository.join(target), version)? else { return Ok(true) };
    let failed = previous.test(repository, stacks)?;
    for name in &failed {
        println!("{name}: passes on the previous version's schema, and fails on this one");
    }
    println!("{} tests of the previous version fail because of the new schema", failed.len());
    Ok(failed.is_empty())
}
