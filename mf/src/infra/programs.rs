//! Where the programs are.

use std::path::{Path, PathBuf};

/// An ordinary user's PATH often leaves these out, and Debian puts servers there.
const FOLDERS_BESIDES_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"];

pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOLDERS_BESIDES_PATH.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

/// One of our own, which are built into the folder that `mf` is in.
pub fn own(name: &str) -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_path_buf();
    Some(folder.join(name)).filter(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
