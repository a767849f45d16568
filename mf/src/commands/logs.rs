//! `mf logs`: the logs of all processes, sorted by time.

use chrono::{DateTime, Utc};

use crate::failure::Result;
use crate::help::examples;
use crate::logs::{self, FOUND_LINES_MAX, Filter, Format, Level};
use crate::runtime::{self, Runtime};
use crate::time;

const LINES_DEFAULT: usize = 50;

/// Show the logs of all processes, or of some, sorted by time
///
/// Without --since, --level and --grep it shows the last 50 lines. With one of them it searches all that the logs
/// contain: at most 32 MiB of each process.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mflogs                              # the last lines of all logs",
    "mflogs -f users tokens              # follow two services",
    "mflogs users-1 --lines 500",
    "mflogs --level warn --since 10m     # warnings and errors of the last ten minutes",
    "mflogs --grep 7f3a9c                # a correlation id, a path, any text",
    "mflogs --json | jq 'select(.level == \"ERROR\")'",
]))]
pub struct Args {
    /// Services or instances; none means all
    names: Vec<String>,
    /// Also show new lines, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many existing lines at most [default: 50, or all that a search finds]
    #[arg(short = 'n', long)]
    lines: Option<usize>,
    /// Only lines since a time: 10m, 2h, 10:30, 2026-01-31T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<DateTime<Utc>>,
    /// Only lines of this level and of more severe ones
    #[arg(long, value_enum, ignore_case = true)]
    level: Option<Level>,
    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Colors: `auto` means in a terminal, unless `NO_COLOR` is set
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    /// As JSON, one object per line, with the name of the process
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = runtime::find().await?;
    let containers = match runtime {
        Some(Runtime::Containers(containers)) => Some(containers),
        _ => None,
    };
    if containers.is_none() && !home.logs().is_dir() {
        return Err(failure!(
            Unavailable,
            "there are no logs in {}: no stack was ever started there. Start one with mfup",
            home.path().display()
        ));
    }
    let colors = match args.color.as_str() {
        "always" => true,
        "never" => false,
        _ => Format::for_terminal().colors,
    };
    let format = Format { json: args.json, colors };
    let is_search = args.since.is_some() || args.level.is_some() || args.grep.is_some();
    let lines = args.lines.unwrap_or(if is_search { FOUND_LINES_MAX } else { LINES_DEFAULT });
    let filter = Filter { names: args.names, level: args.level, since: args.since, text: args.grep };
    let shown = match &containers {
        Some(containers) => logs::show_containers(containers, &filter, format, lines).await,
        None => logs::show(&home, &filter, format, lines),
    };
    match shown {
        // The process may be started later.
        Err(_) if args.follow => {}
        result => result?,
    }
    if args.follow {
        match &containers {
            Some(containers) => logs::follow_containers(containers, &filter, format).await?,
            None => logs::follow(&home, &filter, format).await?,
        }
    }
    Ok(())
}
