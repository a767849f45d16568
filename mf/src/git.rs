//! Git, run in the repository: the commit that a program is built from.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::Result;
use crate::home::repository;

/// Characters of a shortened commit.
const COMMIT_CHARACTERS: &str = "--short=12";

/// Returns the commit that a branch, tag or commit names, shortened.
pub async fn resolve(reference: &str) -> Result<String> {
    let folder = repository();
    run(&folder, &["rev-parse", "--git-dir"]).await?;
    // The peeled name: a tag is an object of its own.
    let commit = format!("{reference}^{{commit}}");
    run(&folder, &["rev-parse", "--verify", "--quiet", COMMIT_CHARACTERS, "--end-of-options", &commit])
        .await
        .map_err(|_| failure!(Usage, "there is no commit, branch or tag `{reference}` in {}", folder.display()))
}

/// Returns the commit of the repository, with `-dirty` if files have changed; `None` without git.
pub async fn head() -> Option<String> {
    let folder = repository();
    let commit = run(&folder, &["rev-parse", COMMIT_CHARACTERS, "HEAD"]).await.ok()?;
    let changes = run(&folder, &["status", "--porcelain", "--untracked-files=no"]).await.ok()?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// Makes `folder` a checkout of exactly this commit. Unchanged files keep their times, so that cargo builds only what
/// differs from the checkout before.
pub async fn check_out(commit: &str, folder: &Path) -> Result<()> {
    let path = folder.display().to_string();
    let is_checkout = folder.join(".git").exists();
    if !(is_checkout && run(folder, &["checkout", "--quiet", "--detach", "--force", commit]).await.is_ok()) {
        // The repository was moved, or the checkout was deleted without it.
        let _ = std::fs::remove_dir_all(folder);
        run(&repository(), &["worktree", "prune"]).await?;
        run(&repository(), &["worktree", "add", "--quiet", "--detach", "--force", &path, commit]).await?;
    }
    run(folder, &["clean", "--quiet", "-ffdx"]).await.map(drop)
}

async fn run(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        // A hook sets these for its own repository.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failure!(Unavailable, "git cannot be run: {error}. Install it: apt-get install git"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let (folder, problem) = (folder.display(), String::from_utf8_lossy(&output.stderr));
    Err(failure!(Unavailable, "git {} failed in {folder}: {}", arguments[0], problem.trim()))
}
