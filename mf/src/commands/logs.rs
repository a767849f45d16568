//! `mf logs`: what the processes say, together, in the order of time.

use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::logs::{self, Filter};

const LINES_DEFAULT: usize = 50;

/// Show the logs of all processes, or of some, in the order of time
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mflogs                      # the last lines of everything\n  mflogs -f users tokens      # as it happens, two services\n  mflogs users-1 --lines 500\n  mflogs --json | jq 'select(.level == \"ERROR\")'"))]
pub struct Args {
    /// Services or instances; none means all
    names: Vec<String>,
    /// Go on with what is written from now
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past
    #[arg(short = 'n', long, default_value_t = LINES_DEFAULT)]
    lines: usize,
    /// As JSON, one object a line, with the process's name
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    if !home.logs().is_dir() {
        return Err(Failure::unavailable(format!(
            "there are no logs in {}: no stack was ever started there",
            home.path().display()
        )));
    }
    let filter = Filter { names: args.names, raw: args.json };
    match logs::show(&home, &filter, args.lines) {
        // Whoever follows may wait for somebody who comes later.
        Err(_) if args.follow => {}
        result => result?,
    }
    if args.follow {
        logs::follow(&home, &filter).await?;
    }
    Ok(())
}
