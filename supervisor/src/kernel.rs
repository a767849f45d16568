//! Starting a process, and how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::log_rotation::Logs;
use crate::orphans::PidFile;
use crate::paths::Paths;
use crate::process::Identity;
use crate::spec::Spec;

pub(crate) fn spawn(paths: &Paths, logs: &Logs, spec: &Spec) -> io::Result<Child> {
    let output = logs.open(&spec.name)?;
    let child = Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env.0)
        .current_dir(&spec.working_directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A process group of its own: it is killed together with its children, and Ctrl-C in a terminal does not reach
        // it.
        .process_group(0)
        .spawn()?;
    if let Some(identity) = Identity::of(pid_of(&child)) {
        PidFile { identity, priority: spec.priority, stop: spec.stop }.write(paths, &spec.name);
    }
    Ok(child)
}

pub(crate) fn pid_of(child: &Child) -> i32 {
    child.id().map_or(0, u32::cast_signed)
}

/// Signals a child that has not been waited for, so that its pid cannot belong to another process.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if pid > 0 {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
    }
}

/// Kills a child that has not been waited for, and its process group.
pub(crate) fn kill_group(pid: i32) {
    if pid > 0 {
        let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Returns how a process ended, for people.
pub(crate) fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(Ok(signal))) => format!("ended by {signal}"),
        (None, _) => "ended".to_owned(),
    }
}

/// Whether a process ended as it was asked to: with exit code 0, or by the signal.
pub(crate) fn was_stopped_by(status: ExitStatus, signal: Signal) -> bool {
    status.success() || status.signal() == Some(signal as i32)
}
