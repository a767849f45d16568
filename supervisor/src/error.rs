//! Errors of the supervisor and of its client.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {}: {source}", path.display())]
    CannotWrite { path: PathBuf, source: io::Error },
    #[error("a supervisor runs already")]
    AlreadyRunning,
    /// The supervisor ended, or was killed, before it replied.
    #[error("the supervisor does not reply ({0})")]
    Unavailable(String),
    /// The supervisor did not do what was requested.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::CannotWrite { path: path.to_path_buf(), source }
    }
}
