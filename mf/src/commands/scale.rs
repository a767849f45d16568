//! `mf scale`: changes how many instances of services run.

use std::collections::BTreeMap;
use std::time::Instant;

use flack_catalogue::Service;

use crate::failure::Result;
use crate::help::examples;
use crate::launch::{Launcher, instances_of};
use crate::progress::Progress;
use crate::runtime;
use crate::settings::{Instances, Settings, UpOptions};
use crate::signals::interrupted;
use crate::upgrade::store::Store;

/// Change how many instances of services run
///
/// Starts missing instances and waits until the balancer sends requests to them, then drains and stops those that are
/// too many, the newest first. The numbers are saved: the next mfup starts as many. 0 stops a service; its requests
/// then get 503.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfscale users=3",
    "mfscale users=2 websocket=4 ui=1",
    "mfscale tokens=0             # nobody can sign in, until mfscale tokens=1",
    "mfscale users=3 --json",
]))]
pub struct Args {
    /// Services with their numbers of instances, such as users=3
    #[arg(required = true, value_name = "SERVICE=NUMBER")]
    counts: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let counts: Instances = args.counts.join(",").parse().map_err(|why| failure!(Usage, "{why}"))?;
    let (home, runtime) = runtime::require().await?;
    let _lock = home.lock("scale")?;
    let mut stack = runtime.stack(&home).await?;
    let desired: Vec<(&'static Service, u16)> = counts.iter().collect();
    let services: Vec<&Service> = desired.iter().map(|(service, _)| *service).collect();
    Store::open(&stack).await?.require_no_upgrade(&services).await?;
    let options = UpOptions { instances: Some(counts), ..UpOptions::default() };
    stack.settings = Settings::merge(Some(&stack.settings), &options)?;

    let (began, progress) = (Instant::now(), Progress::new());
    let launcher = Launcher::new(&stack, &runtime, &progress);
    let result = tokio::select! {
        result = launcher.start_missing(&desired) => result,
        () = interrupted() => Err(failure!(Interrupted, "interrupted; what this command had started is stopped again")),
    };
    let started = match result {
        Ok(started) => started,
        Err(failure) => {
            launcher.undo(None).await;
            return Err(failure);
        }
    };
    // Before anything is stopped: a restart of the stack must not bring back what this command stops.
    stack.settings.save(&home)?;
    let stopped = launcher.stop_surplus(&desired).await?;

    let milliseconds = began.elapsed().as_millis();
    let processes = runtime.list().await?;
    let instances: BTreeMap<&str, Vec<String>> =
        desired.iter().map(|(service, _)| (service.name, instances_of(&processes, service))).collect();
    if args.json {
        print_line!(
            "{}",
            serde_json::json!({
                "instances": instances, "started": started, "stopped": stopped, "milliseconds": milliseconds,
            })
        );
        return Ok(());
    }
    for (service, names) in instances {
        let names = if names.is_empty() { "no instance".to_owned() } else { names.join(", ") };
        print_line!("{service}: {names}");
    }
    Ok(())
}
