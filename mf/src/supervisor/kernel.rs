//! What the supervisor asks of the kernel: to start a process, to signal it, and how it ended.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::leftovers::PidFile;
use super::spec::Spec;
use crate::home::Home;
use crate::process::Identity;

pub(super) fn spawn(home: &Home, spec: &Spec) -> std::io::Result<Child> {
    // The process writes to the file itself: it does not fall over a broken pipe on the day when the supervisor is killed.
    let output = File::options().append(true).create(true).mode(0o600).open(home.log(&spec.name))?;
    let child = Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env.0)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A group of its own: what it starts can be ended with it, and the terminal's Ctrl-C does not reach it.
        .process_group(0)
        .spawn()?;
    if let Some(identity) = Identity::of(pid_of(&child)) {
        PidFile { identity, service: spec.service.clone(), tier: spec.tier, stop: spec.stop }
            .write(home, &spec.name);
    }
    Ok(child)
}

pub(super) fn pid_of(child: &Child) -> i32 {
    child.id().map_or(0, u32::cast_signed)
}

/// The supervisor is the parent and has not collected it: the number is still this process's.
pub(super) fn signal(pid: i32, signal: Signal) {
    if pid > 0 {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
    }
}

pub(super) fn kill_group(pid: i32) {
    if pid > 0 {
        let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

pub(super) const CLEAN: &str = "ended with exit code 0";

pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => CLEAN.to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => {
            Signal::try_from(number).map_or_else(|_| format!("ended by signal {number}"), by_signal)
        }
        (None, None) => "ended".to_owned(),
    }
}

pub(super) fn by_signal(signal: Signal) -> String {
    format!("ended by {signal}")
}
