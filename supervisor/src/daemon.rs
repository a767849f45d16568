//! The supervisor's process, from its start until a shutdown request or a signal.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control;
use crate::error::{Error, Result};
use crate::log::log;
use crate::log_rotation::Logs;
use crate::paths::Paths;
use crate::table::Table;

/// Runs the supervisor in this process until it is shut down. It logs JSON lines to standard output.
pub async fn run(paths: Paths) -> Result<()> {
    let cannot_write = Error::cannot_write;
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&paths.lock);
    let lock = lock.map_err(cannot_write(&paths.lock))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::AlreadyRunning),
        Err(TryLockError::Error(error)) => return Err(cannot_write(&paths.lock)(error)),
    }
    // A session of its own: closing the terminal does not stop us. Fails only if we lead a session already.
    let _ = nix::unistd::setsid();
    raise_open_files_limit();

    // The lock is ours, so an existing socket belongs to no running supervisor.
    let _ = fs::remove_file(&paths.socket);
    let listener = UnixListener::bind(&paths.socket).map_err(cannot_write(&paths.socket))?;
    fs::set_permissions(&paths.socket, fs::Permissions::from_mode(0o600)).map_err(cannot_write(&paths.socket))?;
    log("supervisor", "listening");

    let logs = Logs::new(paths.clone());
    let table = Table::new(paths.clone(), logs.clone());
    tokio::spawn(logs.rotate_when_too_large());
    tokio::spawn(control::serve(listener, table.clone()));

    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => table.shutdown(|_| {}).await,
        _ = interrupt.recv() => table.shutdown(|_| {}).await,
        () = table.shut_down.notified() => {}
    }
    log("supervisor", "ended");
    let _ = fs::remove_file(&paths.socket);
    Ok(())
}

/// Raises the limit of open files to the machine's maximum. Processes inherit it, and a server needs a file per
/// connection.
fn raise_open_files_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn handler(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::Failed(format!("cannot handle signals: {error}")))
}
