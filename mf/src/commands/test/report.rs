//! The runner: runs cargo, prints its output, and counts tests and time.

use std::ffi::OsStr;
use std::io::pipe;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::cargo::{self, cannot_run};
use crate::failure::Result;
use crate::home::repository;
use crate::infra::programs;

/// What tests get from their environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) database_url: String,
    /// For temporary files.
    pub(super) folder: PathBuf,
}

/// Results of all steps.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) passed: u32,
    pub(super) failed: u32,
    /// Name and time of each check and each test program.
    pub(super) parts: Vec<(String, Duration)>,
}

impl Report {
    /// Runs cargo, which passes or fails as a whole.
    pub(super) async fn check(&mut self, part: &str, arguments: &[&str]) -> Result<bool> {
        self.run(part, cargo::command(arguments)).await
    }

    /// Runs a program, which passes or fails as a whole.
    pub(super) async fn run(&mut self, part: &str, mut command: Command) -> Result<bool> {
        let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        print_line!("\n=== {line}");
        let began = Instant::now();
        let status = command.status().await.map_err(|error| failure!(Unavailable, "cannot run {line}: {error}"))?;
        Ok(self.end_check(part, &line, began.elapsed(), status.success()))
    }

    fn end_check(&mut self, part: &str, line: &str, time: Duration, passed: bool) -> bool {
        self.parts.push((part.to_owned(), time));
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            print_line!("=== failed: {line}");
        }
        passed
    }

    /// Runs tests, and beside them checks by cargo at the lowest priority. Returns whether the last one passed.
    ///
    /// The tests leave much of the processor's time: those of whole stacks wait for leases, drains and deadlines.
    pub(super) async fn tests(
        &mut self,
        tests: &[&str],
        environment: &Environment,
        checks: &[(&str, &[&str])],
    ) -> Result<bool> {
        // Cargo locks the target folder until the first test program runs.
        let (is_running, runs) = oneshot::channel();
        let mut ended = Vec::new();
        let checks = async {
            let _ = runs.await;
            for (part, arguments) in checks {
                let began = Instant::now();
                let output = at_lowest_priority(arguments).output().await.map_err(|error| cannot_run(&error))?;
                let line = format!("cargo {}", arguments.join(" "));
                print_line!("\n=== {line}\n{}", String::from_utf8_lossy(&output.stderr));
                ended.push((*part, line, began.elapsed(), output.status.success()));
            }
            Ok(())
        };
        let (tests, checks) = tokio::join!(self.run_tests(tests, environment, is_running), checks);
        tests.and(checks)?;
        let mut passed = true;
        for (part, line, time, succeeded) in ended {
            passed = self.end_check(part, &line, time, succeeded);
        }
        Ok(passed)
    }

    /// Runs `cargo test`, prints what it prints, and counts tests and time of each test program.
    ///
    /// `is_running` is used when the first test program starts.
    async fn run_tests(
        &mut self,
        arguments: &[&str],
        environment: &Environment,
        is_running: oneshot::Sender<()>,
    ) -> Result<()> {
        print_line!("\n=== cargo {}", arguments.join(" "));
        // One pipe for both: cargo writes the names of test programs to standard error, they their results to standard
        // output.
        let (reader, writer) = pipe().map_err(|error| cannot_run(&error))?;
        let mut child = cargo::command(arguments)
            .env("DATABASE_URL", &environment.database_url)
            .env("FLACK_MF", programs::mf()?)
            .env("TMPDIR", &environment.folder)
            .env_remove("MF_HOME")
            .stdout(writer.try_clone().map_err(|error| cannot_run(&error))?)
            .stderr(writer)
            .spawn()
            .map_err(|error| cannot_run(&error))?;
        let failed_before = self.failed;
        let mut package = String::new();
        let mut running: Option<(String, Instant)> = None;
        let mut is_running = Some(is_running);
        let reader = Receiver::from_owned_fd(reader.into()).map_err(|error| cannot_run(&error))?;
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            print_line!("{line}");
            if let Some(part) = part(&line, &mut package) {
                let _ = is_running.take().map(|started| started.send(()));
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

/// Cargo, with only the time of the processor that nothing else wants. Where Linux shares the time by session before it
/// looks at priorities, the session needs the lowest one, too.
fn at_lowest_priority(arguments: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    let script = "echo 19 >/proc/self/autogroup 2>/dev/null; exec chrt --idle 0 cargo \"$@\"";
    command.args(["sh", "-c", script, "sh"]).args(arguments).current_dir(repository());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
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
        return Some(format!("{package} {source}").trim_start().to_owned());
    }
    // `target/debug/deps/flack_users-0123456789abcdef)`
    let name = program.rsplit('/').next()?.rsplit_once('-')?.0;
    let file = source.trim_start_matches("unittests ");
    // A program of the package may have another name than the package.
    if file == "src/lib.rs" {
        name.clone_into(package);
    }
    Some(format!("{package} {file}"))
}

/// Returns how many tests passed and failed, from the last line of a test program: `test result: ok. 5 passed; 0
/// failed; ...`.
fn results(line: &str) -> Option<(u32, u32)> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok()).unwrap_or(0)
    };
    Some((number("passed"), number("failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_test_program_are_counted() {
        let passed = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(results(passed), Some((5, 0)));
        assert_eq!(results("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured"), Some((2, 3)));
        assert_eq!(results("test a::b ... ok"), None);
    }

    #[test]
    fn a_part_is_named_by_its_package_and_file() {
        let package = &mut String::new();
        for (line, expected) in [
            ("     Running unittests src/lib.rs (target/debug/deps/flack_users-6df0)", "flack_users src/lib.rs"),
            ("     Running unittests src/main.rs (target/debug/deps/flackd-6df0)", "flack_users src/main.rs"),
            ("     Running tests/api.rs (target/debug/deps/api-12ab)", "flack_users tests/api.rs"),
            ("   Doc-tests flack_users", "flack_users documentation"),
        ] {
            assert_eq!(part(line, package).as_deref(), Some(expected));
        }
        assert_eq!(part("running 5 tests", package), None);
    }
}
