//! Checks of the processes of a stack, and of the files that they leave when they are killed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use flack_supervisor::{Client, State, orphans};

use super::Check;
use crate::commands::chaos::Record;
use crate::failure::Result;
use crate::home::Home;

pub(super) async fn checks(home: &Home, client: Option<&Client>) -> Result<Vec<Check>> {
    let holder = lock_holder(home);
    // A run of mfchaos holds the lock; then stopped processes and its record are no problem.
    let chaos = if holder.is_some() { None } else { chaos(home)? };
    let lock = holder.and_then(|holder| lock_problem(home, holder));
    let mut checks = vec![Check::new("lock", lock), Check::new("chaos", chaos)];
    let Some(client) = client else {
        checks.push(Check::new("orphans", orphaned(home)?));
        checks.push(Check::new("stale files", stale_files(home)?));
        return Ok(checks);
    };
    let listed = client.list().await?;
    let failing = listed.iter().filter_map(|process| {
        let name = &process.name;
        match process.state {
            State::CrashLooping | State::Restarting => {
                let end = process.last_end.as_deref().unwrap_or("ended");
                Some(format!("{name} is {}: it {end}. See why: mflogs {name}", process.state))
            }
            State::Running | State::Stopping => None,
        }
    });
    let stopped = listed.iter().filter_map(|process| {
        let pid = process.pid.filter(|pid| holder.is_none() && is_stopped(*pid))?;
        Some(format!("{} was stopped by SIGSTOP. Continue it: kill -CONT {pid}", process.name))
    });
    checks.push(Check::new("processes", failing.chain(stopped)));
    Ok(checks)
}

/// The process that holds the lock of the stack.
fn lock_holder(home: &Home) -> Option<i32> {
    let inode = fs::metadata(home.lock_file()).ok()?.ino().to_string();
    // Not by locking: a command that starts at this moment would be refused.
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // "3: FLOCK  ADVISORY  WRITE 17 fe:00:7069782 0 EOF": the pid, then the file.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = *fields.get(1)? == "FLOCK" && fields.get(5)?.rsplit(':').next()? == inode;
        is_ours.then(|| fields[4].parse().ok())?
    })
}

/// The kernel releases the lock of a process that has ended, so only a suspended holder is a problem.
fn lock_problem(home: &Home, holder: i32) -> Option<String> {
    let command = fs::read_to_string(home.lock_file()).unwrap_or_default();
    is_stopped(holder).then(|| {
        let command = if command.is_empty() { "another mf" } else { command.trim() };
        format!("{command} holds the lock of this stack and is suspended. Continue it: kill -CONT {holder}")
    })
}

/// Whether SIGSTOP or Ctrl-Z has stopped a process.
fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name is in brackets, and may contain some.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

pub(super) fn chaos(home: &Home) -> Result<Option<String>> {
    let changes = Record::load(home)?.changes().len();
    let problem = format!("mfchaos was killed and has left {changes} changes. Undo them: mfchaos restore");
    Ok((changes > 0).then_some(problem))
}

fn orphaned(home: &Home) -> Result<Option<String>> {
    let orphans = orphans::find(&home.supervisor()?);
    let names = orphans.join(", ");
    let problem = format!("the supervisor was killed, and these processes still run: {names}. Stop them: mfdown");
    Ok((!orphans.is_empty()).then_some(problem))
}

/// Returns a line when a supervisor was killed whose processes have ended, too.
fn stale_files(home: &Home) -> Result<Option<String>> {
    let paths = home.supervisor()?;
    let running = orphans::find(&paths).len();
    let pid_files = fs::read_dir(&paths.pids).into_iter().flatten().flatten().count();
    let socket = if paths.socket.exists() { " and the socket of a supervisor" } else { "" };
    let stale = pid_files.saturating_sub(running);
    let is_stale = stale > 0 || (!socket.is_empty() && running == 0);
    let problem = format!("{stale} pid files{socket} are left of a killed stack. mfup removes them");
    Ok(is_stale.then_some(problem))
}
