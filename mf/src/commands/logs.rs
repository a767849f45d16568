//! `mf logs`: the logs of all processes, sorted by time.

use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::logs::{self, Filter};

const LINES_DEFAULT: usize = 50;

/// Show the logs of all processes, or of some, sorted by time
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mflogs                      # the last lines of all logs",
    "mflogs -f users tokens      # follow two services",
    "mflogs users-1 --lines 500",
    "mflogs --json | jq 'select(.level == \"ERROR\")'",
]))]
pub struct Args {
    /// Services or instances; none means all
    names: Vec<String>,
    /// Also show new lines, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many existing lines
    #[arg(short = 'n', long, default_value_t = LINES_DEFAULT)]
    lines: usize,
    /// As JSON, one object per line, with the name of the process
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    if !home.logs().is_dir() {
        return Err(failure!(
            Unavailable,
            "there are no logs in {}: no stack was ever started there. Start one with mfup",
            home.path().display()
        ));
    }
    let filter = Filter { names: args.names, json: args.json };
    match logs::show(&home, &filter, args.lines) {
        // The process may be started later.
        Err(_) if args.follow => {}
        result => result?,
    }
    if args.follow {
        logs::follow(&home, &filter).await?;
    }
    Ok(())
}
