//! `mf ps`: what runs, from the supervisor, the registry, the balancer, the processes' health checks and metrics.
//!
//! Reading order: `metrics` (numbers of HAProxy and of instances), `view` (all that is known), `table`, `watch`.

mod metrics;
mod view;
mod table;
mod watch;

use std::io::IsTerminal;

use flack_supervisor::orphans;

use self::view::View;
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::output::print_json;
use crate::runtime;

/// Show what runs where: version, health, memory, routes
///
/// STATE is what the supervisor, the process's own checks (/health, /ready) and HAProxy's checks report together;
/// --wide and --json show them one by one. REQ/S is HAProxy's count of the last second. P99: 99 % of the requests
/// since the start of the instance, with --watch of the last 10 s, took at most this time. SOCKETS are open
/// websockets. An instance that was started by hand (mfenv) has `by hand` instead of its restarts; a service without
/// an instance has the state `none`.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfps",
    "mfps --watch",
    "mfps --json | jq -r '.processes[] | select(.health != \"ready\") | .name'",
]))]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// Draw the table again each second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// All columns, for a wide terminal
    #[arg(long, conflicts_with = "json")]
    wide: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = match runtime::find().await? {
        (home, Some(runtime)) => (home, runtime),
        (home, None) => return Err(not_running(&home)?),
    };
    let stack = runtime.stack(&home).await?;
    // https://no-color.org
    let is_coloured =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = |view: &View| if args.wide { table::wide_lines(view) } else { table::lines(view, is_coloured) };
    if args.watch {
        return watch::run(&stack, &runtime, lines).await;
    }
    let view = view::collect(&stack, &runtime).await?;
    if args.json {
        print_json(&view);
    } else {
        print_line!("{}", lines(&view).join("\n"));
    }
    Ok(())
}

fn not_running(home: &Home) -> Result<Failure> {
    let orphans = if home.exists() { orphans::find(&home.supervisor()?) } else { Vec::new() };
    if orphans.is_empty() {
        return runtime::not_running(home);
    }
    let failure = runtime::not_running(home)?;
    let orphans = orphans.join(", ");
    let hint =
        format!("Its supervisor was killed, and these processes still run: {orphans}. mfdown and mfup stop them.");
    Ok(Failure { message: format!("{}\n{hint}", failure.message), ..failure })
}
