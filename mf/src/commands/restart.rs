//! `mf restart`: replaces instances by new ones of the same version, without a gap.

use std::time::Instant;

use flack_catalogue::{SERVICES, Service};
use serde::Serialize;

use crate::failure::Result;
use crate::help::examples;
use crate::launch::{Launcher, instances_of};
use crate::progress::Progress;
use crate::runtime::{self, Runtime};
use crate::services::{self, ALL};
use crate::settings::INSTANCES_MAX;
use crate::signals::interrupted;
use crate::stack::{Launch, Stack, free_names};
use crate::upgrade::store::Store;

/// Replace instances by new ones, one after the other
///
/// For each instance a new one is started, of the same version, weight and --env. When the balancer sends requests to
/// it, the old one drains and stops, so that no request fails. A new instance that does not become ready is stopped,
/// and the old one stays. The monolith is restarted in the same way: two monoliths share its database for that time.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfrestart users",
    "mfrestart users websocket --max-parallel 2",
    "mfrestart all                              # also the monolith",
    "LIMIT_WRITES_PER_USER_PER_10S=500 mfrestart messages    # with another setting",
]))]
pub struct Args {
    /// Services, or `all`
    #[arg(required = true, value_parser = services::argument_or_all())]
    services: Vec<String>,
    /// How many instances of a service are replaced at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(INSTANCES_MAX)))]
    max_parallel: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Replaced {
    old: String,
    new: String,
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = runtime::require().await?;
    let _lock = home.lock("restart")?;
    let stack = runtime.stack(&home).await?;
    let began = Instant::now();
    let processes = runtime.list().await?;
    let is_selected = |service: &Service| args.services.iter().any(|name| name == ALL || name == service.name);
    let mut selected = Vec::new();
    for service in SERVICES.iter().filter(|service| is_selected(service)) {
        let instances = instances_of(&processes, service).len();
        if instances == 0 && args.services.iter().any(|name| name == service.name) {
            return Err(failure!(Usage, "no instance of {service} runs. Start one: mfrun {service}"));
        }
        let parallel = usize::from(args.max_parallel).min(instances);
        if instances + parallel > usize::from(INSTANCES_MAX) {
            return Err(failure!(
                Usage,
                "{instances} instances of {service} run, and {parallel} more are needed for the time of the restart; \
                 at most {INSTANCES_MAX} are allowed. Use mfscale {service}={}",
                usize::from(INSTANCES_MAX) - parallel
            ));
        }
        selected.push(service);
    }
    Store::open(&stack).await?.require_no_upgrade(&selected).await?;
    let mut replaced = Vec::new();
    for service in selected {
        restart(&stack, &runtime, service, args.max_parallel, &mut replaced).await?;
    }
    let milliseconds = began.elapsed().as_millis();
    if args.json {
        print_line!("{}", serde_json::json!({"replaced": replaced, "milliseconds": milliseconds}));
        return Ok(());
    }
    for Replaced { old, new } in &replaced {
        print_line!("{old} was replaced by {new}");
    }
    if replaced.is_empty() {
        print_line!("no instance runs");
    }
    Ok(())
}

async fn restart(
    stack: &Stack,
    runtime: &Runtime,
    service: &'static Service,
    max_parallel: u16,
    replaced: &mut Vec<Replaced>,
) -> Result<()> {
    let progress = Progress::new();
    let before = runtime.list().await?;
    let names = instances_of(&before, service);
    for old in names.chunks(max_parallel.into()) {
        let taken = instances_of(&runtime.list().await?, service);
        let new = free_names(service, &taken, max_parallel);
        let mut replacements = Vec::new();
        for (old, new) in old.iter().zip(new) {
            let process = before.iter().find(|process| process.name == *old).expect("its name is of this list");
            let version = process.version.as_deref().unwrap_or(stack.settings.version(service));
            let build = runtime.build(&stack.home, version).await?;
            replacements.push(Launch::like(Some(process), service, new, build));
        }
        // A launcher for each step: a failure undoes this step only.
        let launcher = Launcher::new(stack, runtime, &progress);
        let started = tokio::select! {
            result = launcher.start_instances(replacements) => result,
            () = interrupted() => Err(failure!(Interrupted, "interrupted; {} keeps running", old.join(", "))),
        };
        let new = match started {
            Ok(new) => new,
            Err(failure) => {
                launcher.undo(None).await;
                return Err(failure);
            }
        };
        runtime.stop(old.to_vec(), |ended| progress.print_ended(&ended)).await?;
        replaced.extend(old.iter().cloned().zip(new).map(|(old, new)| Replaced { old, new }));
    }
    Ok(())
}
