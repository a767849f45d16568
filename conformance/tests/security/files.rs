//! The files of a stack.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    suite::{Case, World},
};

use crate::attacker;

pub fn cases() -> Vec<Case> {
    cases![another_user_can_read_write_and_enter_nothing_in_the_state_folder]
}

/// Paths for each run of the shell, far below the kernel's limit of arguments.
const PATHS_PER_RUN: usize = 500;

/// Prints those of its arguments that the user may read, write or, if it is a folder, list.
const ACCESSIBLE: &str = r#"for path; do if [ -r "$path" ] || [ -w "$path" ]; then echo "$path"; fi; done"#;

async fn another_user_can_read_write_and_enter_nothing_in_the_state_folder(World { stack, .. }: World) -> Result<()> {
    let mut paths = Vec::new();
    list(stack.home(), &mut paths)?;
    // PostgreSQL's data may be in another folder, to which this is a link.
    list(&stack.home().join("postgres").canonicalize()?, &mut paths)?;
    for expected in ["secrets/stack.json", "secrets/etcd/root.key", "nats/nats.conf", "mf.sock", "haproxy/admin.sock"] {
        ensure!(paths.contains(&stack.home().join(expected)), "{expected} is missing");
    }
    let paths: Vec<&str> =
        paths.iter().map(|path| path.to_str().context("a path that is not text")).collect::<Result<_>>()?;
    for paths in paths.chunks(PATHS_PER_RUN) {
        let arguments = [&["-c", ACCESSIBLE, "sh"], paths].concat();
        let Some(output) = attacker::as_another_user("sh", &arguments)? else { return Ok(()) };
        let accessible = String::from_utf8(output.stdout)?;
        ensure!(accessible.is_empty(), "another user may read or write:\n{accessible}");
    }
    Ok(())
}

/// Lists everything below a folder. The folder itself is not included: its user may have made it readable.
fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))? {
        let entry = entry?;
        paths.push(entry.path());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), paths)?;
        }
    }
    Ok(())
}
