//! `mf test`: every test there is, with a database of its own that is thrown away afterwards.

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::home::repository;
use crate::infra::postgres::Throwaway;
use crate::signals::interrupted;

/// Run every test: format, lints, unit tests, each service on a real database, whole stacks, the browser
///
/// Starts a PostgreSQL of its own in a temporary folder, and ends it afterwards. Tests that need a stack start their own.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mftest                       # everything\n  mftest --fast                # without the tests that start whole stacks\n  mftest a_revoked_token       # tests whose names contain this"))]
pub struct Args {
    /// Only tests whose names contain this; format and lints are left out
    filter: Option<String>,
    /// Leave out the tests that start whole stacks
    #[arg(long)]
    fast: bool,
}

/// The package whose tests start whole stacks.
const STACK_TESTS: &str = "flack-conformance";

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let began = Instant::now();
    let database = Throwaway::start().await?;
    let result = tokio::select! {
        result = steps(&args, &database) => result,
        () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    database.end().await;
    let count = result?;
    print_line!(
        "\n{} passed, {} failed in {:.0} s",
        count.passed,
        count.failed,
        began.elapsed().as_secs_f64()
    );
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::TestsFailed as u8) })
}

/// Every step runs, whatever the ones before say: one run tells all that is wrong.
async fn steps(args: &Args, database: &Throwaway) -> Result<Count> {
    let mut count = Count::default();
    if args.filter.is_none() {
        count.add(step(&["fmt", "--all", "--check"], database).await?);
        count.add(step(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], database).await?);
    }
    // The stack tests start these programs; cargo builds only some of them for the tests by itself. With the tests, so that
    // the features of all packages are the same as for the tests, and nothing is built twice.
    let built = step(&["build", "--workspace", "--bins", "--tests"], database).await?;
    if built.failed > 0 {
        count.add(built);
        return Ok(count);
    }
    let mut tests = vec!["test", "--workspace", "--no-fail-fast"];
    if args.fast {
        tests.extend(["--exclude", STACK_TESTS]);
    }
    tests.extend(args.filter.as_deref());
    count.add(step(&tests, database).await?);
    Ok(count)
}

/// Runs cargo and counts. A step that is no test counts as one.
async fn step(arguments: &[&str], database: &Throwaway) -> Result<Count> {
    print_line!("\n=== cargo {}", arguments.join(" "));
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("mf does not find itself: {error}")))?;
    let mut child = Command::new("cargo")
        .args(arguments)
        .current_dir(repository())
        .env("DATABASE_URL", database.url())
        .env("FLACK_MF", program)
        // Queries were checked when they were written; this database is empty.
        .env("SQLX_OFFLINE", "true")
        .env_remove("MF_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::unavailable(format!("cargo cannot be started: {error}. Get Rust from https://rustup.rs"))
        })?;
    let output = child.stdout.take().expect("standard output is piped");
    let mut lines = BufReader::new(output).lines();
    let mut count = Count::default();
    while let Ok(Some(line)) = lines.next_line().await {
        print_line!("{line}");
        count.add(results(&line));
    }
    let status = child.wait().await.map_err(|error| Failure::internal(format!("cargo was lost: {error}")))?;
    if !status.success() && count.failed == 0 {
        // It did not come as far as a test.
        print_line!("=== failed: cargo {}", arguments.join(" "));
        count.failed = 1;
    } else if arguments.first() != Some(&"test") && arguments.first() != Some(&"build") {
        count.passed += 1;
    }
    Ok(count)
}

/// From `test result: ok. 5 passed; 0 failed; 0 ignored; ...`, the last line of every test program.
fn results(line: &str) -> Count {
    let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return Count::default() };
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Count { passed: number("passed"), failed: number("failed") }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_test_program_are_counted() {
        assert_eq!(
            results(
                "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s"
            ),
            Count { passed: 5, failed: 0 }
        );
        assert_eq!(
            results("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured"),
            Count { passed: 2, failed: 3 }
        );
        assert_eq!(results("test a::b ... ok"), Count::default());
    }
}
