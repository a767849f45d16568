//! `mf doctor`: what is wrong with this machine and this stack, and the command that repairs it.

mod clock;
mod containers;
mod machine;
mod processes;
mod registry;

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use self::registry::Facts;
use crate::commands::events;
use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::output::print_json;
use crate::ports::Ports;
use crate::runtime::{self, Kind, Runtime};
use crate::settings::{PORT_DEFAULT, Settings};
use crate::stack::Stack;
use crate::supervisor;

/// A problem of the registry counts when it is still there after this time: instances come and go.
const RECHECK_AFTER: Duration = Duration::from_secs(2);

/// Show what is wrong with this machine and this stack, and the command that repairs it
///
/// It changes nothing. Without a stack it checks what mfup needs: packages, PostgreSQL, ports, disk, limits. Of a stack
/// in containers it checks the engine, the images, the containers with their health, and volumes without a stack.
/// Exit code 1 means that there is a problem.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfdoctor",
    "mfdoctor --json | jq -r '.checks[].problems[]'",
]))]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// The result of one check. A problem is one line: what is wrong, and the command that repairs it.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    problems: Vec<String>,
    /// What else is known.
    note: Option<String>,
}

impl Check {
    fn new(name: &'static str, problems: impl IntoIterator<Item = String>) -> Self {
        // Some messages have several lines.
        let problems = problems.into_iter().map(|problem| problem.split_whitespace().collect::<Vec<_>>().join(" "));
        Self { name, problems: problems.collect(), note: None }
    }
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let (home, runtime) = runtime::find().await?;
    let checks = match runtime {
        Some(Runtime::Containers(containers)) => containers::checks(&home, containers).await?,
        _ if Kind::from_environment()? == Some(Kind::Docker) => containers::before_start(&home).await,
        _ => checks(&home).await?,
    };
    let is_good = checks.iter().all(|check| check.problems.is_empty());
    if args.json {
        print_json(&serde_json::json!({ "home": home.path(), "ok": is_good, "checks": checks }));
    } else {
        for check in &checks {
            if check.problems.is_empty() {
                let note = check.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                print_line!("ok       {}{note}", check.name);
            }
            for problem in &check.problems {
                print_line!("PROBLEM  {}: {problem}", check.name);
            }
        }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { failure!(TestsFailed, "").code() })
}

async fn checks(home: &Home) -> Result<Vec<Check>> {
    let (settings, unreadable) = match Settings::load(home) {
        Ok(settings) => (settings, None),
        Err(failure) => (None, Some(failure.message)),
    };
    let ports = Ports::of(settings.as_ref().map_or(PORT_DEFAULT, |settings| settings.port));
    let client = supervisor::find(home).await?;
    let mut checks = machine::checks(home, &ports, client.is_some());
    checks.push(clock::of_machine(home).await);
    checks.push(Check::new("settings", unreadable));
    if !home.exists() {
        return Ok(checks);
    }
    checks.extend(processes::checks(home, client.as_ref()).await?);
    checks.push(machine::certificates(home));
    let (Some(client), Ok(stack)) = (client, Stack::open(home)) else { return Ok(checks) };
    checks.extend(of_stack(&stack, &Runtime::Processes(client)).await);
    Ok(checks)
}

/// Returns what the clocks, the registry and the events of a running stack report.
async fn of_stack(stack: &Stack, runtime: &Runtime) -> Vec<Check> {
    let dead = match events::dead(stack).await {
        Ok(ids) if ids.is_empty() => None,
        Ok(ids) => Some(format!(
            "events that were not processed or not published: {}, the first is {}. Show them: mfevents dead list",
            ids.len(),
            ids[0]
        )),
        Err(failure) => Some(failure.message),
    };
    vec![
        clock::of_stack(stack, runtime).await,
        Check::new("registry", registry_problems(stack, runtime).await),
        Check::new("events", dead),
    ]
}

/// Returns the problems that are there twice.
async fn registry_problems(stack: &Stack, runtime: &Runtime) -> Vec<String> {
    let read = async || match Facts::read(stack, runtime).await {
        Ok(facts) => facts.problems(),
        Err(failure) => vec![failure.message],
    };
    let mut problems = read().await;
    if !problems.is_empty() {
        sleep(RECHECK_AFTER).await;
        let again = read().await;
        problems.retain(|problem| again.contains(problem));
    }
    problems
}
