//! `mf ps`: what runs, from the supervisor, the registry, the balancer and the processes' health checks.

mod table;
mod view;

use flack_supervisor::orphans;

use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::output::print_json;
use crate::stack::Stack;
use crate::supervisor;

/// Show what runs where: version, health, memory, routes
///
/// `health` is the result of the process's own checks (/health, /ready); `registry` is whether it is registered;
/// `balancer` is the result of HAProxy's checks.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfps",
    "mfps --json | jq -r '.processes[] | select(.health != \"ready\") | .name'",
]))]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    let Some(client) = supervisor::find(&home).await? else { return Err(not_running(&home)?) };
    let view = view::collect(&Stack::open(&home)?, &client).await?;
    if args.json {
        print_json(&view);
    } else {
        table::print(&view);
    }
    Ok(())
}

fn not_running(home: &Home) -> Result<Failure> {
    let orphans = if home.exists() { orphans::find(&home.supervisor()?) } else { Vec::new() };
    if orphans.is_empty() {
        return Ok(supervisor::not_running(home));
    }
    let failure = supervisor::not_running(home);
    let orphans = orphans.join(", ");
    let hint =
        format!("Its supervisor was killed, and these processes still run: {orphans}. mfdown and mfup stop them.");
    Ok(Failure { message: format!("{}\n{hint}", failure.message), ..failure })
}
