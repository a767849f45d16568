//! `mf migrate`: moves parts between the monolith and their services.

mod session;
mod view;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use flack_handover::guards::LAG_MS_MAX;
use flack_handover::operator::Step as MachineStep;
use flack_handover::{Part, Side};

use crate::cargo;
use crate::failure::Result;
use crate::help::examples;
use crate::infra::programs;
use crate::migrate::driver::KillBefore;
use crate::migrate::observation::Allowed;
use crate::services::ALL;
use session::{Options, Session};

const MODEL: &str = "flack-handover-model";

/// Move a part from the monolith to its service and back, while it serves requests
///
/// Without arguments it shows all parts: who owns each, how far its hand-over is, and whether the next step and the way
/// back are possible, or why not. `<part> --to services` executes all steps and waits for the conditions of each; a
/// step such as `cutover` executes one.
///
/// The owner of a part is one entry in the registry. A step that changes it closes the owner's database for writes for
/// some milliseconds; requests wait meanwhile, and none fails. Whatever goes wrong before the entry changes undoes the
/// attempt. When the terminal is killed in between, `resume` completes the attempt, and `abort` undoes it.
///
/// Exit code 1 means that the owner has not changed: a condition is not met, or the attempt was undone.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfmigrate                                  # all parts",
    "mfmigrate users --to services              # all steps, with their conditions",
    "mfmigrate all --to monolith --no-shadow    # everything back, without repeated reads",
    "mfmigrate users follow && mfmigrate users verify",
    "mfmigrate users cutover --dry-run          # every condition with its measured value, and what would be done",
    "mfmigrate users rollback",
    "mfmigrate users resume                     # after a killed terminal; or abort",
    "mfmigrate watch",
    "mfmigrate model                            # the model of a hand-over, in a browser",
]))]
pub struct Args {
    /// The part, or `all`
    #[arg(value_parser = target())]
    part: Option<Target>,
    /// Execute all steps until this side owns the part
    #[arg(long, value_enum, value_name = "SIDE")]
    to: Option<To>,
    /// Print the conditions with their measured values and the changes, and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Allow a change of owner without repeated reads
    #[arg(long, global = true)]
    no_shadow: bool,
    /// The replication lag with which the owner may change. Writes wait about so long
    #[arg(long, global = true, value_name = "MILLISECONDS", default_value_t = LAG_MS_MAX)]
    max_lag: u32,
    /// How long to wait for one condition
    #[arg(long, global = true, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    timeout: Duration,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    /// For tests
    #[arg(long, global = true, hide = true, value_name = "LINE[:PROCESS]")]
    kill_before: Option<KillBefore>,
    #[command(subcommand)]
    what: Option<What>,
}

/// The side that shall own a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    Services,
    Monolith,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    One(Part),
    All,
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
enum What {
    /// Start the service if it does not run, and let the other side copy the data and apply every change
    Follow,
    /// Compare all rows of both sides
    Verify,
    /// Repeat a share of the reads at the other side, and compare the answers
    Shadow {
        /// The share of the reads
        #[arg(value_parser = clap::value_parser!(u8).range(..=100))]
        percent: u8,
    },
    /// Let a share of the users read at the other side
    Shift {
        /// The share of the users
        #[arg(value_parser = clap::value_parser!(u8).range(..=100))]
        percent: u8,
    },
    /// Make the service the owner
    Cutover,
    /// Make the monolith the owner again
    Rollback,
    /// End the following: the monolith's data becomes old. Asks for the part's name
    Retire {
        /// Do not ask: the part's name, once more
        #[arg(long, value_name = "PART")]
        yes_retire: Option<String>,
        /// Delete the monolith's old rows as well
        #[arg(long)]
        drop: bool,
    },
    /// Pause the copy and the apply at the side that follows
    Pause,
    /// Complete the attempt of a killed terminal; or else continue what `pause` has paused
    Resume,
    /// Undo the attempt of a killed terminal
    Abort,
    /// Show all parts again and again, until Ctrl-C
    Watch,
    /// Show the states of a hand-over, and what can happen in each of them, in a browser
    ///
    /// The first run builds the model. It prints its address, and ends with Ctrl-C. What the operator and a request do
    /// is decided by the functions that the programs use; the programs have those of databases in SQL.
    Model {
        /// Where the browser connects; port 0 is a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

fn target() -> impl clap::builder::TypedValueParser<Value = Target> {
    let names = Part::ALL.map(|part| part.service().name).into_iter().chain([ALL]);
    PossibleValuesParser::new(names).map(|name| Part::find(&name).map_or(Target::All, Target::One))
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|error| error.to_string())
}

pub async fn run(args: Args) -> Result<ExitCode> {
    if let Some(What::Model { listen }) = args.what {
        return show_model(listen).await;
    }
    let options = Options {
        dry_run: args.dry_run,
        allowed: Allowed { no_shadow: args.no_shadow, lag_ms_max: args.max_lag },
        timeout: args.timeout,
        json: args.json,
        kill_before: args.kill_before,
    };
    let parts = match args.part {
        None | Some(Target::All) => Part::ALL.to_vec(),
        Some(Target::One(part)) => vec![part],
    };
    let session = Session::open(options).await?;
    match (args.part, args.to, args.what) {
        (_, None, Some(What::Watch)) => view::watch(&session, &parts).await,
        (_, None, None) => view::show(&session, &parts).await,
        (Some(_), Some(to), None) => {
            let (to, parts) = match to {
                To::Services => (Side::Service, parts),
                // The last one that has moved is the first one to go back.
                To::Monolith => (Side::Monolith, parts.into_iter().rev().collect()),
            };
            session.all_to(parts, to).await
        }
        (Some(Target::One(part)), None, Some(what)) => session.execute(part, what).await,
        (Some(Target::All), None, Some(_)) => {
            Err(failure!(Usage, "a step is for one part; for all of them: mfmigrate all --to services"))
        }
        (None, ..) => Err(failure!(Usage, "which part? Such as mfmigrate users --to services; mfmigrate lists them")),
        (_, Some(_), Some(_)) => Err(failure!(Usage, "--to executes all steps: leave out the step")),
    }
}

impl What {
    /// Returns the step of the machine; none for what is no step of a part with data.
    fn step(&self) -> Option<MachineStep> {
        Some(match self {
            Self::Follow => MachineStep::Follow,
            Self::Verify => MachineStep::Verify,
            Self::Shadow { percent } => MachineStep::Shadow(*percent),
            Self::Shift { percent } => MachineStep::Shift(*percent),
            Self::Cutover => MachineStep::CutOver,
            Self::Rollback => MachineStep::RollBack,
            Self::Retire { .. } => MachineStep::Retire,
            Self::Resume => MachineStep::Resume,
            Self::Abort => MachineStep::Abort,
            Self::Pause | Self::Watch | Self::Model { .. } => return None,
        })
    }
}

async fn show_model(listen: SocketAddr) -> Result<ExitCode> {
    if !cargo::build_program(MODEL, MODEL).await? {
        return Err(failure!(Internal, "the model cannot be built; cargo printed the errors above"));
    }
    let mut command = tokio::process::Command::new(programs::own(MODEL)?);
    command.arg(listen.to_string());
    cargo::execute(MODEL, command).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Args {
        Cli::try_parse_from([&["migrate"], words].concat()).unwrap_or_else(|error| panic!("{words:?}: {error}")).args
    }

    #[test]
    fn a_part_comes_before_its_step_and_options_anywhere() {
        let args = parse(&["users", "shadow", "20", "--no-shadow"]);
        assert_eq!((args.part, args.what), (Some(Target::One(Part::Users)), Some(What::Shadow { percent: 20 })));
        let args = parse(&["all", "--to", "monolith", "--dry-run"]);
        assert_eq!((args.part, args.to, args.dry_run), (Some(Target::All), Some(To::Monolith), true));
        assert_eq!(parse(&["watch"]).what, Some(What::Watch));
        assert!(parse(&[]).what.is_none());
        assert!(Cli::try_parse_from(["migrate", "usres"]).is_err());
    }
}
