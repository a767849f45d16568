//! Checks of the clock: tokens, certificates and the order of events need one that is right, and is not set back.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use flack_catalogue::SERVICES;
use flack_supervisor::process::Identity;
use tokio::process::Command;
use tokio::time::timeout;

use super::Check;
use crate::home::Home;
use crate::infra::postgres;
use crate::runtime::Runtime;
use crate::stack::Stack;

/// File systems and clocks of one machine agree within this time.
const DIFFERENCE_MAX: Duration = Duration::from_secs(5);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// Linux counts the start times of processes in this unit on all processors that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;
/// The command that repairs a clock.
const SET: &str = "Set it: timedatectl set-ntp true";

/// Checks whether the kernel's clock is synchronised, and compares it with the files of the state folder.
pub(super) async fn of_machine(home: &Home) -> Check {
    let (problem, note) = match synchronisation(timedatectl().await.as_deref()) {
        Ok(note) => (None, Some(note)),
        Err(problem) => (Some(problem), None),
    };
    Check { note, ..Check::new("clock", problem.into_iter().chain(newer_file(home, SystemTime::now()))) }
}

/// Compares the clock with PostgreSQL's, and with the time that the stack's processes have run.
pub(super) async fn of_stack(stack: &Stack, runtime: &Runtime) -> Check {
    let (mut problems, mut note) = (Vec::new(), None);
    problems.extend(postgres_seconds_ahead(stack).await.and_then(difference));
    // A container's process may be of another kernel.
    let listed = match runtime {
        Runtime::Processes(client) => client.list().await.unwrap_or_default(),
        Runtime::Containers(_) => Vec::new(),
    };
    let ran = listed.iter().filter_map(|process| Some((process, seconds_of_run(process.pid?)?)));
    if let Some((process, ran)) = ran.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
        match jump(&process.name, process.started, ran, Utc::now()) {
            Ok(forward) => note = forward,
            Err(back) => problems.push(back),
        }
    }
    Check { note, ..Check::new("clock of the stack", problems) }
}

/// Returns what systemd shows of the clock. `NTPSynchronized` is the state of the kernel, whichever program sets it.
async fn timedatectl() -> Option<String> {
    let mut command = Command::new("timedatectl");
    command.arg("show").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(COMMAND_TIMEOUT, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns what is known, or a problem. A machine whose host sets the clock, such as a container, has none.
fn synchronisation(shown: Option<&str>) -> Result<String, String> {
    let is = |property: &str| shown.is_some_and(|shown| shown.lines().any(|line| line == format!("{property}=yes")));
    if shown.is_none() {
        Ok("not known whether it is synchronised, because timedatectl shows nothing here".to_owned())
    } else if is("NTPSynchronized") {
        Ok("synchronised".to_owned())
    } else if is("NTP") {
        Err("the clock is not synchronised, although an NTP service is on. See why: timedatectl timesync-status".into())
    } else if is("CanNTP") {
        Err(format!("the clock is not synchronised: the NTP service is off. {SET}"))
    } else {
        Ok("not synchronised by this machine, which has no NTP service".to_owned())
    }
}

/// Returns a problem if a file of the state folder was written in the future.
fn newer_file(home: &Home, now: SystemTime) -> Option<String> {
    let folders = [home.path().to_path_buf(), home.logs()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let newest = entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).max()?;
    let ahead = newest.0.duration_since(now).ok().filter(|ahead| *ahead > DIFFERENCE_MAX)?;
    Some(format!(
        "the clock was set back: {} was written {} s in the future. {SET}",
        newest.1.display(),
        ahead.as_secs()
    ))
}

/// Returns by how much PostgreSQL's clock is ahead; none if it does not answer, which another check reports.
async fn postgres_seconds_ahead(stack: &Stack) -> Option<f64> {
    let database = SERVICES.iter().find(|service| stack.ports.postgres_host(service.database).is_some())?.database;
    let mut connection = postgres::connect_to(&stack.ports, &stack.secrets, database).await.ok()?;
    let time: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await.ok()?;
    Some((time - Utc::now()).as_seconds_f64())
}

fn difference(ahead: f64) -> Option<String> {
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    let problem = format!("PostgreSQL's clock is {:.0} s {direction} this machine's. {SET}, on both", ahead.abs());
    (ahead.abs() > DIFFERENCE_MAX.as_secs_f64()).then_some(problem)
}

/// Compares the time since a process was started, by the clock, with the time that it has run. A clock that was set
/// forward is a note, because so is each machine that was suspended. `Err`: the clock was set back.
fn jump(name: &str, started: DateTime<Utc>, ran_seconds: f64, now: DateTime<Utc>) -> Result<Option<String>, String> {
    let forward = (now - started).as_seconds_f64() - ran_seconds;
    if forward < -DIFFERENCE_MAX.as_secs_f64() {
        return Err(format!(
            "the clock was set back by {:.0} s since {name} was started: new events seem older than those before. \
             {SET}; if it is right now: mfdown, then mfup",
            -forward
        ));
    }
    let note = format!("set forward by {forward:.0} s since {name} was started");
    Ok((forward > DIFFERENCE_MAX.as_secs_f64()).then_some(note))
}

/// Returns for how long a process has run, whatever the clock was set to meanwhile.
#[expect(clippy::cast_precision_loss, reason = "a machine does not run for 2^53 ticks")]
fn seconds_of_run(pid: i32) -> Option<f64> {
    let since_boot: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some(since_boot - Identity::of(pid)?.started as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_reported() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::at(folder.path()).expect("a home");
        fs::write(folder.path().join("stack.json"), "").expect("a file");
        assert_eq!(newer_file(&home, SystemTime::now()), None);
        let problem = newer_file(&home, SystemTime::now() - Duration::from_hours(1)).expect("a problem");
        assert!(problem.contains("stack.json") && problem.contains("timedatectl"), "{problem}");
    }

    #[test]
    fn a_clock_that_was_set_while_a_process_ran_is_found_by_the_time_that_it_has_run() {
        let me = std::process::id().cast_signed();
        let ran = seconds_of_run(me).expect("this process");
        assert!((0.0..3600.0).contains(&ran), "{ran}");
        let (now, hour) = (Utc::now(), TimeDelta::hours(1));
        let started = now - TimeDelta::milliseconds(1500);
        assert_eq!(jump("etcd", started, 1.5, now), Ok(None));
        let back = jump("etcd", started, 1.5, now - hour).expect_err("a problem");
        assert!(back.contains("set back by 3600 s since etcd") && back.contains("timedatectl"), "{back}");
        let forward = jump("etcd", started, 1.5, now + hour).expect("no problem").expect("a note");
        assert!(forward.contains("set forward by 3600 s"), "{forward}");
    }

    #[test]
    fn another_clock_of_postgresql_is_reported() {
        assert_eq!(difference(0.4), None);
        assert!(difference(-60.0).is_some_and(|problem| problem.contains("60 s behind")));
        assert!(difference(60.0).is_some_and(|problem| problem.contains("60 s ahead of")));
    }
}
