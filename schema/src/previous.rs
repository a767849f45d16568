//! The tests of the previous version, on this version's schema.
//!
//! During an upgrade, instances of the previous version run on the new schema. So this builds the previous version's
//! sources with this version's `migrations/`, and runs its tests of the database and of the API: each service on a real
//! database, and both shapes as whole stacks.
//!
//! Limits: a test can also fail because of a change that no instance notices, such as another error text of PostgreSQL.
//! Data that only the new version writes does not occur.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::released::{self, MIGRATIONS, git};

/// The test programs that need a database, by their names in cargo.
const DATABASE_TESTS: &[&str] = &["service", "sockets", "monolith", "events"];
/// The test programs that start whole stacks.
const STACK_TESTS: &[&str] = &["contract"];
/// Tests that compare the files in `migrations/` with a list in the sources, so each new table fails them.
const SKIPPED_TESTS: &[&str] = &["every_table_of_every_owner_is_journaled_or_listed"];

/// Sources of the previous version with the migrations of this one.
#[derive(Debug)]
pub struct Previous {
    commit: String,
    sources: PathBuf,
    target: PathBuf,
}

impl Previous {
    /// Writes the sources of `version` below `target`; `None` when its schema is the same. `version` is a commit or
    /// tag, by default the last release, or else the commit before the newest change of the migrations.
    pub fn prepare(repository: &Path, target: &Path, version: Option<&str>) -> anyhow::Result<Option<Self>> {
        let version =
            version.map_or_else(|| released::previous_version(repository), |version| Ok(version.to_owned()))?;
        let commit = git(repository, &["rev-parse", "--verify", "--short=12", &format!("{version}^{{commit}}")])?;
        if released::changes(repository, &commit)?.is_empty() {
            eprintln!("The schema is that of {version} ({commit}): nothing to test.");
            return Ok(None);
        }
        eprintln!("The previous version is {version} ({commit}).");
        let target = target.join("previous-version");
        let sources = target.join(&commit);
        fs::create_dir_all(&sources).with_context(|| format!("cannot make the folder {}", sources.display()))?;
        let previous = Self { commit, sources, target };
        previous.extract(repository)?;
        Ok(Some(previous))
    }

    fn extract(&self, repository: &Path) -> anyhow::Result<()> {
        self.extract_path(repository, ".")?;
        self.remove_migrations()?;
        let migrations = self.sources.join(MIGRATIONS);
        run("cp", Command::new("cp").arg("-R").arg(repository.join(MIGRATIONS)).arg(&migrations))
    }

    fn remove_migrations(&self) -> anyhow::Result<()> {
        let migrations = self.sources.join(MIGRATIONS);
        fs::remove_dir_all(&migrations).with_context(|| format!("cannot remove {}", migrations.display()))
    }

    /// Writes a file or folder of the previous version.
    fn extract_path(&self, repository: &Path, path: &str) -> anyhow::Result<()> {
        let mut archive = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(["archive", "--format=tar", &self.commit, path])
            .stdout(Stdio::piped())
            .spawn()
            .context("git cannot be run")?;
        let tar = archive.stdout.take().expect("a piped output");
        // Files get the time of their commit, so a second run builds nothing again: each commit has its own folder.
        // Only migrations are exchanged. They get the present time, which cargo notices.
        let extract = if path == MIGRATIONS { "-xm" } else { "-x" };
        run("tar", Command::new("tar").arg(extract).arg("-C").arg(&self.sources).stdin(tar))?;
        ensure!(archive.wait().context("git archive")?.success(), "git archive failed; its error is above");
        Ok(())
    }

    /// Builds and tests. Returns the tests that fail on this version's schema, but not on the previous one's. The tests
    /// of stacks are left out when `stacks` is false.
    pub fn test(&self, repository: &Path, stacks: bool) -> anyhow::Result<BTreeSet<String>> {
        let mut programs: Vec<&str> = DATABASE_TESTS.to_vec();
        if stacks {
            programs.extend(STACK_TESTS);
        }
        let failed = self.run_tests(&programs, stacks, &[])?;
        if failed.is_empty() {
            return Ok(failed);
        }
        eprintln!("{} tests fail. The same tests on the previous version's own schema:", failed.len());
        self.remove_migrations()?;
        self.extract_path(repository, MIGRATIONS)?;
        let names: Vec<&str> = failed.iter().map(String::as_str).collect();
        let failed_before = self.run_tests(&programs, stacks, &names)?;
        for name in &failed_before {
            eprintln!("{name} fails in the previous version as well.");
        }
        Ok(failed.difference(&failed_before).cloned().collect())
    }

    /// Returns the names of the tests that fail. All are run if `only` is empty.
    fn run_tests(&self, programs: &[&str], stacks: bool, only: &[&str]) -> anyhow::Result<BTreeSet<String>> {
        if stacks {
            // The programs of a stack. Always the whole workspace: another choice of packages is another choice of
            // features, and would build most dependencies again.
            run("cargo", &mut self.cargo(&["build", "--workspace", "--bins"]))?;
        }
        let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
        for program in programs {
            arguments.extend(["--test", program]);
        }
        arguments.push("--");
        for name in SKIPPED_TESTS {
            arguments.extend(["--skip", name]);
        }
        arguments.extend(only);
        arguments.extend((!only.is_empty()).then_some("--exact"));
        let mut child = self.cargo(&arguments).stdout(Stdio::piped()).spawn().context("cargo cannot be run")?;
        let output = BufReader::new(child.stdout.take().expect("a piped output"));
        let mut failed = BTreeSet::new();
        for line in output.lines() {
            let line = line.context("the output of cargo cannot be read")?;
            println!("{line}");
            failed.extend(failed_test(&line).map(str::to_owned));
        }
        let status = child.wait().context("cargo cannot be awaited")?;
        ensure!(status.success() || !failed.is_empty(), "the tests cannot be run ({status}); cargo's error is above");
        Ok(failed)
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        eprintln!("In {}: cargo {}", self.sources.display(), arguments.join(" "));
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .current_dir(&self.sources)
            .env("CARGO_TARGET_DIR", self.target.join("build"))
            // Its own mf must start its own programs.
            .env("MF_REPOSITORY", &self.sources)
            .env_remove("FLACK_MF")
            .env_remove("MF_HOME");
        command
    }
}

/// Returns the name in a line such as `test api::a_user_is_found ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix("FAILED")?.trim_end().strip_suffix("...").map(str::trim)
}

fn run(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{name} cannot be run; install it"))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{name} {} failed ({status}); its output is above", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_failed_tests_are_read_from_the_output() {
        assert_eq!(failed_test("test api::a_user_is_found ... FAILED"), Some("api::a_user_is_found"));
        assert_eq!(failed_test("test services: a_user_is_found   ... FAILED"), Some("services: a_user_is_found"));
        for line in ["test api::a_user_is_found ... ok", "test result: FAILED. 1 passed; 1 failed", "FAILED"] {
            assert_eq!(failed_test(line), None, "{line}");
        }
    }
}
