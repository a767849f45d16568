//! The failure of a command: a message for people, an exit code for scripts.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Exit codes; those from 64 to 78 are from sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    TestsFailed = 1,
    Usage = 64,
    Unavailable = 69,
    Internal = 70,
    CannotWrite = 73,
    TryAgain = 75,
    Contradiction = 78,
    Interrupted = 130,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    pub fn cannot_write(path: &Path, error: &io::Error) -> Self {
        let hint = "Set MF_HOME to a folder that you may write, or make room.";
        Self::new(Exit::CannotWrite, format!("cannot write {}: {error}. {hint}", path.display()))
    }

    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<flack_supervisor::Error> for Failure {
    fn from(error: flack_supervisor::Error) -> Self {
        use flack_supervisor::Error;
        match error {
            Error::CannotWrite { path, source } => Self::cannot_write(&path, &source),
            Error::AlreadyRunning => Self::new(Exit::TryAgain, "this stack has a supervisor already"),
            Error::Unavailable(_) => Self::unavailable(format!("{error}. Run mfdown, then mfup")),
            Error::Failed(message) => Self::internal(message),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(format!("{error:#}"))
    }
}
