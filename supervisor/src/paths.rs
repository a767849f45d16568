//! Where a supervisor keeps its files.

use std::path::{Path, PathBuf};

/// The files and folders of one supervisor. The folders must exist.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The control socket. The kernel allows at most 107 bytes.
    pub socket: PathBuf,
    /// Locked while the supervisor runs.
    pub lock: PathBuf,
    /// Holds `<name>.log` of each process, and `supervisor.log`.
    pub logs: PathBuf,
    /// Holds `<name>.json` of each running process, from which orphans are found.
    pub pids: PathBuf,
}

impl Paths {
    /// The usual names in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            socket: folder.join("supervisor.sock"),
            lock: folder.join("supervisor.lock"),
            logs: folder.join("log"),
            pids: folder.join("run"),
        }
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.pids.join(format!("{name}.json"))
    }
}
