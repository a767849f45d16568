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

/// Returns a `Failure`: `failure!(Usage, "there is no service `{name}`")`.
#[macro_export]
macro_rules! failure {
    ($exit:ident, $($message:tt)*) => {
        $crate::failure::Failure { exit: $crate::failure::Exit::$exit, message: format!($($message)*) }
    };
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// For `map_err`.
    pub fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |error| {
            let hint = "Set MF_HOME to a folder that you may write, or make room.";
            failure!(CannotWrite, "cannot write {}: {error}. {hint}", path.display())
        }
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
            Error::CannotWrite { path, source } => Self::cannot_write(&path)(source),
            Error::AlreadyRunning => failure!(TryAgain, "this stack has a supervisor already"),
            Error::Unavailable(_) => failure!(Unavailable, "{error}. Run mfdown, then mfup"),
            Error::Failed(message) => Self { exit: Exit::Internal, message },
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        failure!(Internal, "{error:#}")
    }
}
