//! `mf events`: shows events and where they wait, and retries, replays or drops them.
//!
//! It uses the superuser's account in PostgreSQL and the operator's account in NATS, and sends no request to a service,
//! so that it works while a service does not respond. It changes data only through SQL functions of the databases
//! (`migrations/shared/0004_operations.sql`).

mod databases;
mod streams;
mod replay_queue;

mod dead;
mod lag;
mod rebuild;
mod replay;
mod tail;

use std::process::ExitCode;

use clap::Subcommand;
use flack_catalogue::Service;

use crate::failure::Result;
use crate::help::examples;
use crate::runtime;
use crate::services;
use crate::stack::Stack;

/// Show events and consumers that are behind; replay events; repair
///
/// Every change of data is an event. It goes from the owner's journal to the owner's stream, and from there to the
/// inbox of each consumer. All commands work while the app runs.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents tail                              # every event, as it is published",
    "mfevents lag                               # consumers that are behind, and by how much",
    "mfevents replay users --rebuild messages   # rebuild the nicknames in messages",
    "mfevents dead list                         # what could not be processed",
]))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Tail(tail::Args),
    Lag(lag::Args),
    Replay(replay::Args),
    Dead(dead::Args),
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let stack = runtime::open().await?;
    match args.command {
        Command::Tail(args) => tail::run(&stack, args).await?,
        Command::Lag(args) => return lag::run(&stack, &args).await,
        Command::Replay(args) => replay::run(&stack, args).await?,
        Command::Dead(args) => dead::run(&stack, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the ids of events that were not processed or not published.
pub async fn dead(stack: &Stack) -> Result<Vec<String>> {
    dead::ids(stack).await
}

/// Parses the name of an owner, or of its stream (`USERS`).
fn parse_owner(text: &str) -> std::result::Result<&'static Service, String> {
    let owner = services::parse(&text.to_lowercase())?;
    if !owner.publishes_events {
        return Err(format!("{owner} publishes no events: it has no stream"));
    }
    Ok(owner)
}

/// Returns at most so many characters of a text, on one line.
fn shortened(text: &str, characters_max: usize) -> String {
    let one_line = text.replace(['\n', '\r'], " ");
    if one_line.chars().count() <= characters_max {
        return one_line;
    }
    one_line.chars().take(characters_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn every_subcommand_has_help_with_an_example_and_takes_json() {
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.get_about().is_some(), "mf events {name} has a description");
            assert!(help.contains(&format!("mfevents {name}")), "mf events {name} has an example");
            let json = std::iter::once(command)
                .chain(command.get_subcommands())
                .any(|command| command.get_arguments().any(|argument| argument.get_id() == "json"));
            assert!(json, "mf events {name} --json");
        }
    }

    #[test]
    fn an_owner_is_parsed_from_its_name_or_its_stream() {
        assert_eq!(parse_owner("users"), Ok(Service::named("users")));
        assert_eq!(parse_owner("USERS"), Ok(Service::named("users")));
        assert!(parse_owner("websocket").is_err());
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("grüße\nan alle", 7), "grüße …");
    }
}
