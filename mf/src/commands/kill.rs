//! `mf kill`: stops instances, or makes them crash.

use std::time::Duration;

use flack_catalogue::extracted;
use flack_supervisor::ProcessStatus;
use tokio::time::sleep;

use crate::failure::Result;
use crate::help::examples;
use crate::runtime::{self, Runtime};
use crate::signals::interrupted;
use crate::stack::number;
use crate::suggestion;

/// A process that is stopped for longer is one that does not run.
const FREEZE_SECONDS_MAX: i64 = 600;

/// Stop an instance for good, or kill it as if it had crashed
///
/// Without --hard an instance drains, stops and is not restarted. With --hard it gets kill -9, and the supervisor
/// restarts it after a pause that grows with each crash. The name of a service selects its newest instance; --all, or
/// `all` after the names, selects every instance. `all` alone selects every instance but the monolith's. Other
/// processes (etcd, nats, postgres, agent, haproxy) can be killed by name, too. mfup starts what was stopped for good.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
#[command(after_help = examples(&[
    "mfkill users-1                      # drain and stop it, for good",
    "mfkill users --hard                 # kill -9 one instance of users; it is restarted",
    "mfkill users --all --hard           # all instances of users at once",
    "mfkill users-2 tokens-1             # several",
    "mfkill all                          # every instance but the monolith's",
    "mfkill nats --hard --no-restart     # no events until mfup",
    "mfkill messages-1 --freeze 8        # as if its machine were suspended",
]))]
pub struct Args {
    /// Instances (users-1), services (users), other processes (etcd), or `all`
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Every instance of the services
    #[arg(long)]
    all: bool,
    /// kill -9
    #[arg(long)]
    hard: bool,
    /// Stop it for so many seconds with its connections open (SIGSTOP, docker pause), then let it continue
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["hard", "no_restart"])]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=FREEZE_SECONDS_MAX))]
    freeze: Option<u16>,
    /// With --hard: do not restart it
    #[arg(long, requires = "hard")]
    no_restart: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (_, runtime) = runtime::require().await?;
    let names = choose(&runtime.list().await?, &args.names, args.all)?;
    let mut results = Vec::new();
    if let Some(seconds) = args.freeze {
        freeze(&runtime, &names, seconds).await?;
        results.extend(names.into_iter().map(|name| (name, format!("was frozen for {seconds} s, and continues"))));
    } else if args.hard {
        let kills = names.iter().map(|name| runtime.kill(name, !args.no_restart));
        let restarts = match &runtime {
            Runtime::Processes(_) => "the supervisor restarts it",
            Runtime::Containers(_) => "it is started again",
        };
        for (name, killed) in names.iter().zip(futures::future::join_all(kills).await) {
            let how = match (killed?, args.no_restart) {
                (Some(pid), false) => format!("killed (pid {pid}); {restarts}"),
                (Some(pid), true) => format!("killed (pid {pid}), for good"),
                (None, false) => format!("was not running; {restarts}"),
                (None, true) => "was not running, and is not restarted".to_owned(),
            };
            results.push((name.clone(), how));
        }
    } else {
        runtime.stop(names, |ended| results.push((ended.name, ended.outcome))).await?;
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

/// Freezes processes. They continue after the time, or when this command is interrupted.
async fn freeze(runtime: &Runtime, names: &[String], seconds: u16) -> Result<()> {
    // First: a frozen process must continue, whenever this command is interrupted.
    let interrupted = interrupted();
    let mut frozen = Vec::new();
    let mut result = Ok(());
    for name in names {
        result = runtime.pause(name, true).await;
        if result.is_err() {
            break;
        }
        frozen.push(name);
    }
    if result.is_ok() {
        result = tokio::select! {
            () = sleep(Duration::from_secs(seconds.into())) => Ok(()),
            () = interrupted => Err(failure!(Interrupted, "interrupted; no longer frozen: {}", names.join(", "))),
        };
    }
    // All of them, also when one cannot continue, because it was killed meanwhile.
    for name in frozen {
        let continued = runtime.pause(name, false).await;
        result = result.and(continued);
    }
    result
}

/// Returns the processes that the names select, each once. Fails before anything is stopped if one does not run.
fn choose(listed: &[ProcessStatus], names: &[String], all: bool) -> Result<Vec<String>> {
    let (names, all) = match names {
        [services @ .., last] if last == "all" && !services.is_empty() => (services, true),
        names => (names, all),
    };
    let mut chosen = Vec::new();
    for name in names {
        let selected = select(listed, name, all)?;
        chosen.extend(selected.into_iter().filter(|process| !chosen.contains(process)).collect::<Vec<_>>());
    }
    Ok(chosen)
}

fn select(listed: &[ProcessStatus], name: &str, all: bool) -> Result<Vec<String>> {
    let names = |of: &dyn Fn(&ProcessStatus) -> bool| -> Vec<String> {
        let mut names: Vec<String> =
            listed.iter().filter(|process| of(process)).map(|process| process.name.clone()).collect();
        names.sort_by_key(|name| number(name));
        names
    };
    let is_extracted = |process: &ProcessStatus| extracted().any(|service| service.name == process.group);
    if name == "all" {
        let every = names(&is_extracted);
        return if every.is_empty() { Err(failure!(Usage, "no instance of any service runs")) } else { Ok(every) };
    }
    if listed.iter().any(|process| process.name == name) {
        return Ok(vec![name.to_owned()]);
    }
    let mut of_service = names(&|process| process.group == name);
    if of_service.is_empty() {
        let running = listed.iter().map(|process| process.name.as_str());
        return Err(failure!(
            Usage,
            "`{name}` does not run; {}",
            suggestion::among(name, "running processes", running)
        ));
    }
    Ok(if all { of_service } else { of_service.split_off(of_service.len() - 1) })
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use flack_supervisor::{Environment, State};

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
            own_env: Environment::default(),
            state: State::Running,
            pid: None,
            restarts: 0,
            started: Utc::now(),
            last_end: None,
        })
        .to_vec()
    }

    fn chosen(names: &[&str], all: bool) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        choose(&listed(), &names, all).expect("they run")
    }

    #[test]
    fn a_service_name_selects_its_newest_instance() {
        assert_eq!(chosen(&["users-1"], false), ["users-1"]);
        assert_eq!(chosen(&["users"], false), ["users-10"]);
        assert_eq!(chosen(&["users"], true), ["users-1", "users-2", "users-10"]);
        assert_eq!(chosen(&["etcd"], false), ["etcd"]);
    }

    #[test]
    fn several_names_select_each_process_once() {
        assert_eq!(chosen(&["users", "users-10", "ui-1"], false), ["users-10", "ui-1"]);
        assert_eq!(chosen(&["users", "ui", "all"], false), ["users-1", "users-2", "users-10", "ui-1"]);
    }

    #[test]
    fn all_selects_only_instances_of_services() {
        assert_eq!(chosen(&["all"], false), ["users-1", "ui-1", "users-2", "users-10"]);
    }

    #[test]
    fn the_error_for_an_unknown_name_suggests_a_similar_one_and_lists_what_runs() {
        let names = ["ui-1", "usres-1"].map(str::to_owned);
        let failure = choose(&listed(), &names, false).expect_err("one does not run");
        assert!(failure.message.contains("`usres-1` does not run; did you mean `users-1`?"), "{failure}");
        assert!(failure.message.contains("Running processes are etcd, monolith-1"), "{failure}");
    }
}
