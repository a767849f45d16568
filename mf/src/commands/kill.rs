//! `mf kill`: takes instances away, politely or as a crash would.

use flack_catalogue::extracted;
use flack_supervisor::ProcessStatus;

use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::stack::number;
use crate::supervisor;

/// Stop one instance for good, or kill it as a crash would
///
/// Without --hard an instance leaves in good order and stays away. With --hard it gets kill -9, as if it had crashed:
/// the supervisor starts it again after a pause that grows with each crash. A service's name means one of its
/// instances, the youngest; `all` (or --all) means every one. Other processes (etcd, nats, postgres, agent, haproxy)
/// can be killed by name as well, to see what happens; mfup starts again what was stopped for good.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
#[command(after_help = examples("  mfkill users-1                      # leaves in good order, for good\n  mfkill users --hard                 # kill -9 one of users; it comes back\n  mfkill users all --hard             # all of users at once\n  mfkill all                          # every instance of every service\n  mfkill nats --hard --no-restart     # the events pipeline is gone until mfup"))]
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
    /// With --hard: it does not come back
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
                (Some(pid), false) => format!("killed (pid {pid}); the supervisor starts it again"),
                (Some(pid), true) => format!("killed (pid {pid}), for good"),
                (None, false) => "was down already; the supervisor starts it again".to_owned(),
                (None, true) => "was down already, and stays so".to_owned(),
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
    let is_split = |process: &ProcessStatus| extracted().any(|service| service.name == process.group);
    if target == "all" {
        let every = names(&is_split);
        return if every.is_empty() {
            Err(Failure::usage("no instance of any service runs"))
        } else {
            Ok(every)
        };
    }
    if listed.iter().any(|process| process.name == target) {
        return Ok(vec![target.to_owned()]);
    }
    let mut of_service = names(&|process| process.group == target);
    if of_service.is_empty() {
        let running: Vec<&str> = listed.iter().map(|process| process.name.as_str()).collect();
        return Err(Failure::usage(format!("`{target}` does not run. What runs: {}", running.join(", "))));
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
            state: State::Running,
            pid: None,
            restarts: 0,
            started: Utc::now(),
            last_end: None,
        })
        .to_vec()
    }

    #[test]
    fn a_name_means_itself_and_a_service_its_youngest() {
        assert_eq!(choose(&listed(), "users-1", false).expect("it runs"), ["users-1"]);
        assert_eq!(choose(&listed(), "users", false).expect("some run"), ["users-10"]);
        assert_eq!(choose(&listed(), "users", true).expect("some run"), ["users-1", "users-2", "users-10"]);
        assert_eq!(choose(&listed(), "etcd", false).expect("it runs"), ["etcd"]);
    }

    #[test]
    fn all_means_the_services_alone() {
        assert_eq!(
            choose(&listed(), "all", false).expect("some run"),
            ["users-1", "ui-1", "users-2", "users-10"]
        );
    }

    #[test]
    fn who_does_not_run_is_answered_with_those_who_do() {
        let failure = choose(&listed(), "tokens", false).expect_err("none runs");
        assert!(failure.message.contains("What runs: etcd, monolith-1"), "{failure}");
    }
}
