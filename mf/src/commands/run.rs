//! `mf run`: starts instances of a service.

use std::time::Instant;

use flack_catalogue::{MONOLITH, Service};

use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::launch::{Launcher, instances_of};
use crate::progress::Progress;
use crate::services;
use crate::settings::INSTANCES_MAX;
use crate::stack::{Stack, free_names};
use crate::supervisor;

/// Start one more instance of a service
///
/// Returns when the balancer sends requests to it.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfrun users",
    "mfrun websocket --count 3 --json",
]))]
pub struct Args {
    /// The service
    #[arg(value_parser = services::argument())]
    service: &'static Service,
    /// How many instances to start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(INSTANCES_MAX)))]
    count: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    let client = supervisor::require(&home).await?;
    let _lock = home.lock("run")?;
    let stack = Stack::open(&home)?;
    let (service, taken) = (args.service, instances_of(&client.list().await?, args.service));
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
    let progress = Progress::new();
    let launcher = Launcher::new(&stack, &client, &progress);
    let began = Instant::now();
    let names = free_names(service, &taken, args.count);
    let result = launcher.start_instances(names.into_iter().map(|name| (service, name)).collect()).await;
    let names = match result {
        Ok(names) => names,
        Err(failure) => {
            launcher.undo(None).await;
            return Err(failure);
        }
    };
    let milliseconds = began.elapsed().as_millis();
    if args.json {
        print_line!("{}", serde_json::json!({"instances": names, "milliseconds": milliseconds}));
    } else {
        print_line!("{} in the balancer after {milliseconds} ms", names.join(", "));
    }
    Ok(())
}
