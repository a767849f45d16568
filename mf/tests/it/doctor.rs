//! `mf doctor` on stacks with one problem each.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Stack, is_alive, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns the problems of a check.
fn problems(stack: &Stack, check: &str) -> Vec<String> {
    problems_of(&stack.run(&["doctor", "--json"]), check)
}

fn problems_of(output: &std::process::Output, check: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(i32::from(report["ok"] == false)), "{report}");
    let checks = report["checks"].as_array().expect("checks");
    let found = checks.iter().find(|found| found["name"] == check);
    let found = found.unwrap_or_else(|| panic!("there is no check {check}: {report}"));
    let problems = found["problems"].as_array().expect("problems").iter();
    problems.map(|problem| problem.as_str().expect("a text").to_owned()).collect()
}

fn signal(pid: i64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("the process is ours");
}

#[test]
fn a_machine_without_packages_is_found_with_the_command_that_installs_them() {
    let stack = Stack::new();
    let empty = tempfile::tempdir().expect("a folder");
    let output =
        stack.mf(&["doctor", "--json"]).env("PATH", empty.path()).env("MF_POSTGRES_BIN", empty.path()).output();
    let output = output.expect("mf runs");
    let postgres = problems_of(&output, "postgresql");
    assert!(postgres[0].contains("apt-get install postgresql"), "{postgres:?}");
    // Debian's other servers are found beside PATH.
    let packages = problems_of(&output, "packages");
    assert!(packages.iter().all(|problem| problem.contains("apt-get install")), "{packages:?}");
}

#[test]
fn a_port_in_use_is_found_with_its_process() {
    let stack = Stack::new();
    mf::settings::Settings::merge(None, &mf::settings::UpOptions { port: Some(stack.port), ..Default::default() })
        .and_then(|settings| settings.save(&mf::home::Home::at(stack.home.path())?))
        .expect("settings");
    let _nats = TcpListener::bind(("127.0.0.1", mf::ports::Ports::of(stack.port).nats)).expect("a free port");
    let found = problems(&stack, "ports");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("for NATS") && found[0].contains(&format!("(pid {})", std::process::id())), "{found:?}");
    assert!(found[0].contains("mfup --port"), "{found:?}");
}

/// Returns the check of the clock on a machine whose `timedatectl` is this script.
fn clock_with(script: &str) -> serde_json::Value {
    let (stack, programs) = (Stack::new(), tempfile::tempdir().expect("a folder"));
    let program = programs.path().join("timedatectl");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("executable");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.path().display());
    let output = stack.mf(&["doctor", "--json"]).env("PATH", path).output().expect("mf runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == "clock").expect("a check of the clock").clone()
}

#[test]
fn a_clock_that_is_not_synchronised_is_found_where_the_machine_can_synchronise_it() {
    for (shown, expected) in [
        ("CanNTP=yes NTP=no NTPSynchronized=no", "timedatectl set-ntp true"),
        ("CanNTP=yes NTP=yes NTPSynchronized=no", "timedatectl timesync-status"),
    ] {
        let check = clock_with(&format!("printf '%s\\n' {shown}"));
        let problems = check["problems"].as_array().expect("problems");
        assert_eq!(problems.len(), 1, "{shown}: {check}");
        assert!(problems[0].as_str().is_some_and(|problem| problem.contains(expected)), "{shown}: {check}");
    }
    for (script, expected) in [
        ("printf '%s\\n' CanNTP=no NTP=no NTPSynchronized=yes", "synchronised"),
        ("printf '%s\\n' CanNTP=no NTP=no NTPSynchronized=no", "no NTP service"),
        // As in a container.
        ("echo 'System has not been booted with systemd' >&2; exit 1", "not known"),
    ] {
        let check = clock_with(script);
        assert_eq!(check["problems"], serde_json::json!([]), "{script}");
        assert!(check["note"].as_str().is_some_and(|note| note.contains(expected)), "{script}: {check}");
    }
}

#[test]
fn settings_that_cannot_be_read_are_found() {
    let stack = Stack::new();
    fs::write(stack.home.path().join("stack.json"), "{").expect("written");
    assert!(problems(&stack, "settings")[0].contains("stack.json is not valid"));
}

#[test]
fn data_of_another_version_of_postgresql_is_found() {
    let stack = Stack::new();
    let data = stack.home.path().join("postgres");
    fs::create_dir(&data).expect("a data folder");
    fs::write(data.join("PG_VERSION"), "12\n").expect("written");
    assert!(problems(&stack, "postgresql")[0].contains("was created by PostgreSQL 12"));
}

#[test]
fn a_killed_supervisor_its_orphans_and_its_files_are_found_and_nothing_after_mfdown() {
    let stack = Stack::started();
    let (nats, etcd) = (stack.pid("nats"), stack.pid("etcd"));
    let status = fs::read_to_string(format!("/proc/{nats}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim();
    let supervisor = parent.parse().expect("a pid");
    signal(supervisor, Signal::SIGKILL);
    wait_for("the supervisor is gone", || !is_alive(supervisor));
    let orphans = problems(&stack, "orphans");
    assert!(orphans[0].contains("etcd, nats, postgres") && orphans[0].contains("mfdown"), "{orphans:?}");

    signal(etcd, Signal::SIGKILL);
    wait_for("etcd is gone", || !is_alive(etcd));
    let stale = problems(&stack, "stale files");
    assert!(stale[0].contains("1 pid files") && stale[0].contains("mfup"), "{stale:?}");

    stack.expect(&["down"], 0);
    assert_eq!(problems(&stack, "orphans"), Vec::<String>::new());
}

#[test]
fn a_suspended_command_that_holds_the_lock_is_found() {
    let stack = Stack::started();
    let lock = stack.home.path().join("lock");
    let mut holder =
        std::process::Command::new("flock").arg("--no-fork").arg(&lock).args(["sleep", "60"]).spawn().expect("flock");
    let pid = i64::from(holder.id());
    let home = mf::home::Home::at(stack.home.path()).expect("a home");
    wait_for("it holds the lock", || home.lock("up").is_err());
    // As mfup does.
    fs::write(&lock, format!("mf up (pid {pid})")).expect("written");
    assert_eq!(problems(&stack, "lock"), Vec::<String>::new(), "it works");
    signal(pid, Signal::SIGSTOP);
    wait_for("it is suspended", || !problems(&stack, "lock").is_empty());
    let found = problems(&stack, "lock");
    signal(pid, Signal::SIGKILL);
    holder.wait().expect("it ends");
    assert!(found[0].contains("mf up (pid") && found[0].contains(&format!("kill -CONT {pid}")), "{found:?}");
}

#[test]
fn a_crash_looping_process_is_found_with_the_command_that_shows_why() {
    let stack = Stack::started();
    // NATS cannot start with this configuration.
    fs::write(stack.home.path().join("nats/nats.conf"), "listen: nowhere").expect("written");
    stack.expect(&["kill", "nats", "--hard"], 0);
    wait_for("NATS has ended again", || {
        problems(&stack, "processes").iter().any(|problem| problem.contains("mflogs nats"))
    });
}

#[test]
fn services_without_instances_and_processes_that_sigstop_has_stopped_are_found() {
    let stack = Stack::started();
    // Only the stores run, so each route leads to a service without an instance.
    let found = problems(&stack, "registry");
    assert!(found.iter().any(|problem| problem.ends_with("which has no instance: mfrun users")), "{found:?}");
    assert_eq!(problems(&stack, "processes"), Vec::<String>::new());
    let pid = stack.pid("nats");
    signal(pid, Signal::SIGSTOP);
    wait_for("NATS is stopped", || !problems(&stack, "processes").is_empty());
    let found = problems(&stack, "processes");
    signal(pid, Signal::SIGCONT);
    assert!(found[0].contains(&format!("kill -CONT {pid}")), "{found:?}");
}

#[tokio::test]
async fn dead_letters_are_found() {
    let stack = Stack::started();
    assert_eq!(problems(&stack, "events"), Vec::<String>::new());
    assert_eq!(problems(&stack, "clock of the stack"), Vec::<String>::new());
    let home = mf::home::Home::at(stack.home.path()).expect("a home");
    let secrets = mf::secrets::Secrets::load(&home).expect("readable").expect("secrets");
    let ports = mf::ports::Ports::of(stack.port);
    let mut users = mf::infra::postgres::connect_to(&ports, &secrets, "users").await.expect("connected");
    // The tables that every service has.
    for migration in [
        include_str!("../../../migrations/shared/0001_journal.sql"),
        include_str!("../../../migrations/shared/0002_inbox.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&mut users).await.expect("tables");
    }
    let dead = "insert into inbox
            (event_time, stream, sequence, message_id, kind, entity_id, version, payload, state)
        values (now(), 'messages', 1, 'messages-1', 'message', '1', 1, '{}', 'dead')";
    sqlx::query(dead).execute(&mut users).await.expect("a dead letter");
    let found = problems(&stack, "events");
    assert!(found[0].contains("users:1") && found[0].contains("mfevents dead list"), "{found:?}");
}
