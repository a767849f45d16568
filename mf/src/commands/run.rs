//! `mf run`: starts instances of a service.

use std::collections::BTreeMap;
use std::time::Instant;

use flack_catalogue::{MONOLITH, Service};
use flack_common::registry::{WEIGHT_DEFAULT, WEIGHT_MAX};

use crate::builds;
use crate::failure::Result;
use crate::help::examples;
use crate::launch::{Launcher, instances_of};
use crate::progress::Progress;
use crate::runtime;
use crate::services;
use crate::settings::INSTANCES_MAX;
use crate::stack::{Launch, free_names};
use crate::upgrade::store::Store;

/// Start one more instance of a service
///
/// Returns when the balancer sends requests to it. Instances of several versions can run side by side; mfbuild makes
/// versions.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfrun users",
    "mfrun websocket --count 3 --json",
    "mfrun users --version 2 --weight 10        # a tenth of the requests of another instance",
    "mfrun messages --env RUST_LOG=debug",
]))]
pub struct Args {
    /// The service
    #[arg(value_parser = services::argument())]
    service: &'static Service,
    /// How many instances to start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(INSTANCES_MAX)))]
    count: u16,
    /// The version to start [default: the workspace's programs, or what a finished upgrade has set]
    #[arg(long)]
    version: Option<String>,
    /// The instance's share of the requests, compared with 100 of other instances: 0 to 256
    #[arg(long, default_value_t = WEIGHT_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=i64::from(WEIGHT_MAX)))]
    weight: u16,
    /// A variable of the instance's environment; it stays when the instance is restarted after a crash
    #[arg(long, value_name = "NAME=VALUE", value_parser = builds::parse_variable)]
    env: Vec<(String, String)>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = runtime::require().await?;
    let _lock = home.lock("run")?;
    let stack = runtime.stack(&home).await?;
    let (service, taken) = (args.service, instances_of(&runtime.list().await?, args.service));
    if service.name == MONOLITH && !taken.is_empty() {
        return Err(failure!(Usage, "the monolith runs already; it always has one instance"));
    }
    if taken.len() + usize::from(args.count) > usize::from(INSTANCES_MAX) {
        return Err(failure!(
            Usage,
            "{} instances of {service} run already; at most {INSTANCES_MAX} are allowed",
            taken.len()
        ));
    }
    Store::open(&stack).await?.require_no_upgrade(&[service]).await?;
    let progress = Progress::new();
    let launcher = Launcher::new(&stack, &runtime, &progress);
    let began = Instant::now();
    let build = runtime.build(&home, args.version.as_deref().unwrap_or(stack.settings.version(service))).await?;
    let env: BTreeMap<String, String> = args.env.into_iter().collect();
    let launch = |name| Launch { service, name, build: build.clone(), weight: args.weight, env: env.clone() };
    let new = free_names(service, &taken, args.count).into_iter().map(launch).collect();
    let result = launcher.start_instances(new).await;
    let names = match result {
        Ok(names) => names,
        Err(failure) => {
            launcher.undo(None).await;
            return Err(failure);
        }
    };
    let milliseconds = began.elapsed().as_millis();
    if args.json {
        print_line!(
            "{}",
            serde_json::json!({"instances": names, "version": build.version, "milliseconds": milliseconds})
        );
    } else {
        print_line!("{} in the balancer after {milliseconds} ms", names.join(", "));
    }
    Ok(())
}
