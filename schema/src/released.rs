//! The version before this one, in git: the last release, or else the commit before the newest change of the schema.

use std::{path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{
    lint::{Finding, Report},
    rules::CHANGED_MIGRATION,
};

/// The folder of the migrations in the repository.
pub const MIGRATIONS: &str = "migrations";
/// Tags of releases.
const RELEASE_TAGS: &str = "v[0-9]*";

/// Adds a finding for each migration of the last release that has been changed or removed: sqlx compares checksums.
pub fn check(repository: &Path, report: &mut Report) {
    let Ok(release) = last_release(repository) else {
        report
            .notes
            .push("no release tag (v1.2.3) was found, so changes of released migrations are not checked".into());
        return;
    };
    match changes(repository, &release) {
        Ok(changes) => report.findings.extend(changes.into_iter().filter_map(|(status, file)| {
            let why = format!("{}, and the release is {release}", CHANGED_MIGRATION.why);
            (status != 'A').then(|| Finding { why, ..Finding::of_file(CHANGED_MIGRATION, &file) })
        })),
        Err(error) => report.notes.push(format!("changes of released migrations are not checked: {error:#}")),
    }
}

/// Returns the commit of the previous version.
pub fn previous_version(repository: &Path) -> anyhow::Result<String> {
    if let Ok(tag) = last_release(repository) {
        return Ok(tag);
    }
    let is_changed = !git(repository, &["status", "--porcelain", "--", MIGRATIONS])?.is_empty();
    if is_changed {
        return Ok("HEAD".to_owned());
    }
    let newest = git(repository, &["log", "-1", "--format=%H", "--", MIGRATIONS])?;
    if newest.is_empty() {
        bail!("no commit changes {MIGRATIONS}/, so there is no previous version: name it with --from <commit or tag>");
    }
    Ok(format!("{newest}^"))
}

/// Returns the migrations that differ from those of `version`, with git's letter: `A`dded, `M`odified, `D`eleted.
pub fn changes(repository: &Path, version: &str) -> anyhow::Result<Vec<(char, String)>> {
    let changed = git(repository, &["diff", "--name-status", "--no-renames", version, "--", MIGRATIONS])?;
    let added = git(repository, &["ls-files", "--others", "--exclude-standard", "--", MIGRATIONS])?;
    let changed = changed.lines().filter_map(|line| {
        let (status, file) = line.split_once('\t')?;
        Some((status.chars().next()?, file.to_owned()))
    });
    Ok(changed.chain(added.lines().map(|file| ('A', file.to_owned()))).collect())
}

fn last_release(repository: &Path) -> anyhow::Result<String> {
    git(repository, &["describe", "--tags", "--abbrev=0", "--match", RELEASE_TAGS])
}

/// Runs git, and returns its output without white space at the ends.
pub fn git(repository: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(arguments)
        .output()
        .context("git cannot be run: install it, or use --from")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests;
