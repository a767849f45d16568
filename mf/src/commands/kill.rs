//! `mf kill`: stops instances, or makes them crash.

use flack_catalogue::extracted;
use flack_supervisor::ProcessStatus;

use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::stack::number;
use crate::supervisor;

/// Stop an instance for good, or kill it as if it had crashed
///
/// Without --hard an instance drains, stops and is not restarted. With --hard it gets kill -9, and the supervisor
/// restarts it after a pause that grows with each crash. The name of a service selects its newest instance; `all` (or
/// --all) selects every instance. Other processes (etcd, nats, postgres, agent, haproxy) can be killed by name, too.
/// mfup starts what was stopped for good.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
#[command(after_help = examples(&[
    "mfkill users-1                      # drain and stop it, for good",
    "mfkill users --hard                 # kill -9 one instance of users; it is restarted",
    "mfkill users all --hard             # all instances of users at once",
    "mfkill all                          # every instance of every service",
    "mfkill nats --hard --no-restart     # no events until mfup",
]))]
pub struct Args {
    /// An instance (users-1), a service (users), another process (etcd), or `all`
    target: String,
    /// `all`: every instance of the service
    #[arg(value_parser = ["all"])]
    which: Option<String>,
    /// Every instance of the service
    #[arg(long)]
    all: bool,
    /// kill -9
    #[arg(long)]
    hard: bool,
    /// With --hard: do not restart it
    #[arg(long, requires = "hard")]
    no_restart: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    let client = supervisor::require(&home).await?;
    let names = choose(&client.list().await?, &args.target, args.all || args.which.is_some())?;
    let mut results = Vec::new();
    if args.hard {
        let kills = names.iter().map(|name| client.kill(name, !args.no_restart));
        for (name, killed) in names.iter().zip(futures::future::join_all(kills).await) {
            let how = match (killed?, args.no_restart) {
                (Some(pid), false) => format!("killed (pid {pid}); the supervisor restarts it"),
                (Some(pid), true) => format!("killed (pid {pid}), for good"),
                (None, false) => "was not running; the supervisor restarts it".to_owned(),
                (None, true) => "was not running, and is not restarted".to_owned(),
            };
            results.push((name.clone(), how));
        }
    } else {
        client.stop(names, |ended| results.push((ended.name, ended.outcome))).await?;
    }
    if args.json {
        let results: Vec<_> =
            results.iter().map(|(name, how)| serde_json::json!({"name": name, "result": how})).collect();
        print_line!("{}", serde_json::Value::from(results));
    } else {
        for (name, how) in results {
            print_line!("{name} {how}");
        }
    }
    Ok(())
}

fn choose(listed: &[ProcessStatus], target: &str, all: bool) -> Result<Vec<String>> {
    let names = |of: &dyn Fn(&ProcessStatus) -> bool| -> Vec<String> {
        let mut names: Vec<String> =
            listed.iter().filter(|process| of(process)).map(|process| process.name.clone()).collect();
        names.sort_by_key(|name| number(name));
        names
    };
    let is_extracted = |process: &ProcessStatus| extracted().any(|service| service.name == process.group);
    if target == "all" {
        let every = names(&is_extracted);
        return if every.is_empty() { Err(failure!(Usage, "no instance of any service runs")) } else { Ok(every) };
    }
    if listed.iter().any(|process| process.name == target) {
        return Ok(vec![target.to_owned()]);
    }
    let mut of_service = names(&|process| process.group == target);
    if of_service.is_empty() {
        let running: Vec<&str> = listed.iter().map(|process| process.name.as_str()).collect();
        return Err(failure!(Usage, "`{target}` does not run; running processes are {}", running.join(", ")));
    }
    Ok(if all { of_service } else { of_service.split_off(of_service.len() - 1) })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use flack_supervisor::State;

    fn listed() -> Vec<ProcessStatus> {
        [
            ("etcd", "etcd"),
            ("monolith-1", "monolith"),
            ("users-1", "users"),
            ("users-10", "users"),
            ("users-2", "users"),
            ("ui-1", "ui"),
        ]
        .map(|(name, service)| ProcessStatus {
            name: name.to_owned(),
            group: service.to_owned(),
            version: None,
            state: State::Running,
            pid: None,
            restarts: 0,
            started: Utc::now(),
            last_end: None,
        })
        .to_vec()
    }

    #[test]
    fn a_service_name_selects_its_newest_instance() {
        assert_eq!(choose(&listed(), "users-1", false).expect("it runs"), ["users-1"]);
        assert_eq!(choose(&listed(), "users", false).expect("some run"), ["users-10"]);
        assert_eq!(choose(&listed(), "users", true).expect("some run"), ["users-1", "users-2", "users-10"]);
        assert_eq!(choose(&listed(), "etcd", false).expect("it runs"), ["etcd"]);
    }

    #[test]
    fn all_selects_only_instances_of_services() {
        assert_eq!(choose(&listed(), "all", false).expect("some run"), ["users-1", "ui-1", "users-2", "users-10"]);
    }

    #[test]
    fn the_error_for_an_unknown_target_lists_what_runs() {
        let failure = choose(&listed(), "tokens", false).expect_err("none runs");
        assert!(failure.message.contains("running processes are etcd, monolith-1"), "{failure}");
    }
}
