//! The tests of the previous version, on this version's schema.
//!
//! During an upgrade, instances of the previous version run on the new schema. So this builds the previous version's
//! sources with this version's `migrations/`, and runs its tests of the database and of the API: each service on a real
//! database, and both shapes as whole stacks.
//!
//! Limits: a previous test can also fail because of a change that no instance notices, such as another error text of
//! PostgreSQL. Data that only the new version writes does not occur.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::released::{self, MIGRATIONS, git};

/// The test programs that need a database, by their names in cargo.
const DATABASE_TESTS: &[&str] = &["service", "sockets", "monolith", "events"];
/// The test programs that start whole stacks.
const STACK_TESTS: &[&str] = &["contract"];

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
        // A folder for each commit: cargo compares times, and the files of a commit have the time of the commit.
        let sources = target.join(&commit);
        fs::create_dir_all(&sources).with_context(|| format!("cannot make the folder {}", sources.display()))?;
        let previous = Self { commit, sources, target };
        previous.extract(repository)?;
        Ok(Some(previous))
    }

    fn extract(&self, repository: &Path) -> anyhow::Result<()> {
        let mut archive = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(["archive", "--format=tar", &self.commit])
            .stdout(Stdio::piped())
            .spawn()
            .context("git cannot be run")?;
        let tar = archive.stdout.take().expect("a piped output");
        run("tar", Command::new("tar").arg("-x").arg("-C").arg(&self.sources).stdin(tar))?;
        ensure!(archive.wait().context("git archive")?.success(), "git archive failed; its error is above");
        let migrations = self.sources.join(MIGRATIONS);
        fs::remove_dir_all(&migrations).with_context(|| format!("cannot remove {}", migrations.display()))?;
        run("cp", Command::new("cp").arg("-R").arg(repository.join(MIGRATIONS)).arg(&migrations))
    }

    /// Builds and tests. The tests of stacks are left out when `stacks` is false.
    pub fn test(&self, stacks: bool) -> anyhow::Result<()> {
        let mut names: Vec<&str> = DATABASE_TESTS.to_vec();
        if stacks {
            names.extend(STACK_TESTS);
            // The programs of a stack. Always the whole workspace: another choice of packages is another choice of
            // features, and would build most dependencies again.
            self.cargo(&["build", "--workspace", "--bins"])?;
        }
        let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
        for name in names {
            arguments.extend(["--test", name]);
        }
        self.cargo(&arguments).with_context(|| {
            format!("the tests of the previous version ({}) fail on this version's schema", self.commit)
        })
    }

    fn cargo(&self, arguments: &[&str]) -> anyhow::Result<()> {
        eprintln!("In {}: cargo {}", self.sources.display(), arguments.join(" "));
        run(
            "cargo",
            Command::new("cargo")
                .args(arguments)
                .current_dir(&self.sources)
                .env("CARGO_TARGET_DIR", self.target.join("build"))
                // Its own mf must start its own programs.
                .env("MF_REPOSITORY", &self.sources)
                .env_remove("FLACK_MF")
                .env_remove("MF_HOME"),
        )
    }
}

fn run(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{name} cannot be run; install it"))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{name} {} failed ({status}); its output is above", arguments.join(" "));
    }
    Ok(())
}
