//! The identity and the memory of a process, from `/proc`.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A pid with its start time, because the kernel reuses pids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// In clock ticks since the machine booted.
    pub started: u64,
}

impl Identity {
    pub fn of(pid: i32) -> Option<Self> {
        let (_, _, started) = stat(pid)?;
        Some(Self { pid, started })
    }

    /// Whether the process runs. A zombie has ended.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, _, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills the process and its process group.
    pub(crate) fn kill_group(&self) {
        if self.is_alive() {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// Returns state, parent and start time. The program's name may contain brackets, so reading starts after the last one.
fn stat(pid: i32) -> Option<(char, i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Returns the memory of a process and its descendants in KiB, as PSS: a page shared by n processes counts 1/n for
/// each.
pub fn memory_kib(pid: i32) -> Option<u64> {
    let mut family = vec![pid];
    let processes: Vec<(i32, i32)> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(_, parent, _)| (pid, parent)))
        .collect();
    let mut seen = 0;
    while seen < family.len() {
        let parent = family[seen];
        family.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        seen += 1;
    }
    let sizes: Vec<u64> = family.into_iter().filter_map(pss_kib).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

fn pss_kib(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_differs_from_a_later_one_with_its_pid() {
        let me = Identity::of(std::process::id().cast_signed()).expect("this process");
        assert!(me.is_alive());
        assert!(!Identity { started: me.started + 1, ..me }.is_alive());
        assert!(memory_kib(me.pid).is_some_and(|kib| kib > 0));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let identity = Identity::of(child.id().cast_signed()).expect("the child");
        assert!(identity.is_alive());
        identity.signal(Signal::SIGKILL);
        // Nothing has waited for it: its state becomes Z shortly after the signal.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while identity.is_alive() {
            assert!(std::time::Instant::now() < deadline, "the child did not end");
            std::thread::yield_now();
        }
        child.wait().expect("it has ended");
    }
}
