//! Paths of programs.

use std::path::{Path, PathBuf};

use crate::failure::Result;

/// Debian installs servers here, and the PATH of a user often lacks these folders.
const FOLDERS_BESIDES_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"];

pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOLDERS_BESIDES_PATH.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

/// Returns the name itself for a missing program: starting it reports the error.
pub fn path(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| name.into())
}

/// Returns a program of this workspace. All are built into the folder that `mf` is in.
pub fn own(name: &str) -> Result<PathBuf> {
    let program = mf()?.with_file_name(name);
    if is_program(&program) {
        return Ok(program);
    }
    Err(failure!(Unavailable, "{} is not built. Build everything: mfbuild", program.display()))
}

/// Returns the path of this program.
pub fn mf() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| failure!(Internal, "the path of mf cannot be determined: {error}"))
}

pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
