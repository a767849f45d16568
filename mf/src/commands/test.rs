//! `mf test`: every test, with a temporary database; or only the database, for plain `cargo test`.

use std::io::pipe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::cargo::{self, cannot_run};
use crate::failure::{Exit, Result};
use crate::help::examples;
use crate::infra::postgres::TemporaryServer;
use crate::infra::programs;
use crate::signals::interrupted;

/// Run every test: format, lints, unit tests, each service on a real database, whole stacks, the browser
///
/// Starts a temporary PostgreSQL, and stops it afterwards. Tests that need a stack start their own. With --database it
/// runs no test: it prints the `DATABASE_URL` that plain `cargo test` needs.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mftest                       # everything",
    "mftest --fast                # without the tests that start whole stacks",
    "mftest a_revoked_token       # tests whose names contain this",
    "eval \"$(mftest --database)\" && cargo test -p flack-users",
    "mftest --database --stop",
]))]
pub struct Args {
    /// Only tests whose names contain this; format and lints are left out
    filter: Option<String>,
    /// Leave out the tests that start whole stacks
    #[arg(long)]
    fast: bool,
    /// Only start a PostgreSQL for tests, and print its address as a shell line; it runs until --stop
    #[arg(long, conflicts_with_all = ["filter", "fast"])]
    database: bool,
    /// Stop the PostgreSQL that --database started
    #[arg(long, requires = "database")]
    stop: bool,
}

/// The package whose tests start whole stacks.
const STACK_TESTS: &str = "flack-conformance";

/// Results of all steps.
#[derive(Debug, Default)]
struct Report {
    passed: u32,
    failed: u32,
    parts: Vec<(String, Duration)>,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    if args.database {
        return database(args.stop).await.map(|()| ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let server = TemporaryServer::start().await?;
    let mut report = Report::default();
    let result = tokio::select! {
        result = steps(&args, &server, &mut report) => result,
        () = interrupted() => Err(failure!(Interrupted, "interrupted")),
    };
    server.stop().await;
    result?;
    print_line!("\nTime by part:");
    // `bin/mf` builds before it starts this program.
    let built = std::env::var_os("MF_BUILD_SECONDS").and_then(|seconds| seconds.to_str()?.parse().ok());
    let built = built.map(|seconds| ("build by bin/mf".to_owned(), Duration::from_secs(seconds)));
    for (part, time) in built.into_iter().chain(report.parts) {
        print_line!("{:8.1} s  {part}", time.as_secs_f64());
    }
    let seconds = began.elapsed().as_secs_f64();
    print_line!("\n{} passed, {} failed in {seconds:.0} s", report.passed, report.failed);
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::TestsFailed as u8) })
}

async fn database(stop: bool) -> Result<()> {
    if stop {
        let server = TemporaryServer::in_background()?;
        let was_running = server.is_running().await;
        server.stop().await;
        print_line!(
            "{}",
            if was_running { "The PostgreSQL for tests is stopped." } else { "It was not running." }
        );
        return Ok(());
    }
    let server = TemporaryServer::start_in_background().await?;
    print_line!("export DATABASE_URL='{}'", server.url()?);
    eprintln!("mf: the PostgreSQL for tests runs until: mftest --database --stop");
    Ok(())
}

/// Runs every step, also after one has failed, so that one run reports everything that is wrong.
async fn steps(args: &Args, server: &TemporaryServer, report: &mut Report) -> Result<()> {
    if args.filter.is_none() {
        report.check("fmt", &["fmt", "--all", "--check"]).await?;
        report.check("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).await?;
    }
    // The stack tests start these programs; cargo builds only some of them for the tests by itself. Programs and tests
    // in one build, because another choice of packages is another choice of features, and would build everything twice.
    if !report.check("build", &["build", "--workspace", "--bins", "--tests"]).await? {
        return Ok(());
    }
    let mut tests = vec!["test", "--workspace", "--no-fail-fast"];
    if args.fast {
        tests.extend(["--exclude", STACK_TESTS]);
    }
    tests.extend(args.filter.as_deref());
    report.tests(&tests, &server.url()?).await
}

impl Report {
    /// Runs cargo, which passes or fails as a whole.
    async fn check(&mut self, part: &str, arguments: &[&str]) -> Result<bool> {
        print_line!("\n=== cargo {}", arguments.join(" "));
        let began = Instant::now();
        let passed = cargo::run(arguments).await?;
        self.parts.push((part.to_owned(), began.elapsed()));
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            print_line!("=== failed: cargo {}", arguments.join(" "));
        }
        Ok(passed)
    }

    /// Runs `cargo test`, prints what it prints, and counts tests and time of each test program.
    async fn tests(&mut self, arguments: &[&str], database_url: &str) -> Result<()> {
        print_line!("\n=== cargo {}", arguments.join(" "));
        // One pipe for both: cargo writes the names of test programs to standard error, they their results to standard
        // output.
        let (reader, writer) = pipe().map_err(|error| cannot_run(&error))?;
        let mut child = cargo::command(arguments)
            .env("DATABASE_URL", database_url)
            .env("FLACK_MF", programs::mf()?)
            .env_remove("MF_HOME")
            .stdout(writer.try_clone().map_err(|error| cannot_run(&error))?)
            .stderr(writer)
            .spawn()
            .map_err(|error| cannot_run(&error))?;
        let failed_before = self.failed;
        let mut package = String::new();
        let mut running: Option<(String, Instant)> = None;
        let reader = Receiver::from_owned_fd(reader.into()).map_err(|error| cannot_run(&error))?;
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            print_line!("{line}");
            if let Some(part) = part(&line, &mut package) {
                self.end_part(running.replace((part, Instant::now())));
            } else if let Some((passed, failed)) = results(&line) {
                self.passed += passed;
                self.failed += failed;
            }
        }
        let status = child.wait().await.map_err(|error| cannot_run(&error))?;
        self.end_part(running);
        if !status.success() && self.failed == failed_before {
            print_line!("=== failed: cargo {}", arguments.join(" "));
            self.failed += 1;
        }
        Ok(())
    }

    fn end_part(&mut self, part: Option<(String, Instant)>) {
        self.parts.extend(part.map(|(name, began)| (name, began.elapsed())));
    }
}

/// Returns the name of the test program that cargo announces in this line: the package, and for an integration test its
/// file.
fn part(line: &str, package: &mut String) -> Option<String> {
    let line = line.trim_start();
    if let Some(documented) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{documented} documentation"));
    }
    let (source, program) = line.strip_prefix("Running ")?.split_once(" (")?;
    if !source.starts_with("unittests ") {
        return Some(format!("{package} {source}"));
    }
    // `target/debug/deps/flack_users-0123456789abcdef)`
    program.rsplit('/').next()?.rsplit_once('-')?.0.clone_into(package);
    Some(format!("{package} {}", source.trim_start_matches("unittests ")))
}

/// Returns how many tests passed and failed, from the last line of a test program: `test result: ok. 5 passed; 0
/// failed; ...`.
fn results(line: &str) -> Option<(u32, u32)> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some((number("passed"), number("failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_test_program_are_counted() {
        let passed =
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(results(passed), Some((5, 0)));
        assert_eq!(results("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured"), Some((2, 3)));
        assert_eq!(results("test a::b ... ok"), None);
    }

    #[test]
    fn a_part_is_named_by_its_package_and_file() {
        let package = &mut String::new();
        for (line, expected) in [
            (
                "     Running unittests src/lib.rs (target/debug/deps/flack_users-6df0)",
                "flack_users src/lib.rs",
            ),
            ("     Running tests/api.rs (target/debug/deps/api-12ab)", "flack_users tests/api.rs"),
            ("   Doc-tests flack_users", "flack_users documentation"),
        ] {
            assert_eq!(part(line, package).as_deref(), Some(expected));
        }
        assert_eq!(part("running 5 tests", package), None);
    }
}
