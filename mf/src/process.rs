//! What the kernel says about a process: whether it is still the one we started, and how much memory it takes.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// In clock ticks since the machine started.
    pub started: u64,
}

impl Identity {
    pub fn of(pid: i32) -> Option<Self> {
        let (_, _, started) = stat(pid)?;
        Some(Self { pid, started })
    }

    /// True while it runs; a zombie has ended, even where nobody has collected it yet.
    pub fn is_alive(&self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, _, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it and everything in its process group.
    pub fn kill_group(&self) {
        if self.is_alive() {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// State, parent and start time from `/proc/<pid>/stat`. The name in there may hold spaces and brackets: read from the last one.
fn stat(pid: i32) -> Option<(char, i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// The memory of a process and all below it in kibibytes, shared pages counted once among those who share them (PSS).
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
    fn a_process_is_itself_and_no_other_with_its_number() {
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
        // Not collected yet: the state in /proc turns to Z a moment after the signal.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while identity.is_alive() {
            assert!(std::time::Instant::now() < deadline, "the child did not end");
            std::thread::yield_now();
        }
        child.wait().expect("collected");
    }
}
