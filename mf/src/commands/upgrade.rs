//! `mf upgrade`: replaces the version of a service while it serves requests, and goes back by itself if the new one is
//! bad.

mod session;
mod view;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use flack_catalogue::{SERVICES, Service};
use flack_common::registry::MatchText;

use crate::failure::Result;
use crate::help::examples;
use crate::output::print_json;
use crate::runtime::Runtime;
use crate::services;
use crate::upgrade::options::Options;
use crate::upgrade::order::order;
use crate::upgrade::plan::Intent;
use crate::upgrade::record::{Judgement, Kind, Phase};
use crate::upgrade::store::Request;
use session::Session;

const ALL: &str = "all";

/// Replace the version of a service while it serves requests, and go back if the new one is bad
///
/// `roll` starts an instance of the new version, waits until it is in the balancer, compares its requests with those of
/// the old version in the same seconds, and only then stops an old instance; then the next. A new version that fails
/// more requests, is slower, exits, or does not become ready is reverted. With too few requests for a verdict the
/// upgrade holds, and `promote` lets it go on.
///
/// The upgrade is recorded in the registry: any terminal can follow, promote or abort it, and `resume` continues it if
/// its terminal is gone. Exit code 1 means that the new version does not run: it was reverted, or is held.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfbuild --version 2 && mfupgrade roll users --to 2",
    "mfupgrade roll all --to 2 --max-parallel 2 --max-surge 2",
    "mfupgrade try messages --to 2                  # 1 % of the users, then more; then promote or abort",
    "mfupgrade status --watch                   # in another terminal",
    "mfupgrade abort users                      # back to the version before, now",
    "mfupgrade undo users                       # back to the version before, after the upgrade is done",
]))]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Replace all instances of a service, or of all services, one after the other
    Roll {
        /// The service, or `all`: consumers of events after their sources, websocket last
        #[arg(value_parser = PossibleValuesParser::new(SERVICES.iter().map(|service| service.name).chain([ALL])))]
        service: String,
        /// The version; mfbuild ls lists them
        #[arg(long, value_name = "VERSION")]
        to: String,
        #[command(flatten)]
        options: Options,
        /// Print what would be replaced, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give the new version to a part of the users, as a canary, until it is promoted or aborted
    ///
    /// Without --percent, --header and --user the share of the users grows by --step. Each step needs a good verdict.
    /// Then the terminal observes the version until `promote` or `abort` in another one, and reverts it if it is bad.
    Try {
        /// The service
        #[arg(value_parser = services::argument())]
        service: &'static Service,
        /// The version; mfbuild ls lists them
        #[arg(long, value_name = "VERSION")]
        to: String,
        #[command(flatten)]
        audience: AudienceArgs,
        /// Return when the last step is good; nobody observes the version from then on
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        options: Options,
        /// Print what would be started, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Go on although there is not enough traffic for a verdict, or with a version that is held because it is bad
    Promote {
        /// The service [default: the one that is being upgraded]
        #[arg(value_parser = services::argument())]
        service: Option<&'static Service>,
    },
    /// Go back to the version before. Capacity does not fall meanwhile
    Abort {
        /// The service [default: the one that is being upgraded]
        #[arg(value_parser = services::argument())]
        service: Option<&'static Service>,
    },
    /// Continue an upgrade whose terminal is gone, or that is held
    Resume {
        /// The service [default: the one that is being upgraded]
        #[arg(value_parser = services::argument())]
        service: Option<&'static Service>,
    },
    /// Roll back a finished upgrade. The version before is judged by its health only
    Undo {
        /// The service
        #[arg(value_parser = services::argument())]
        service: &'static Service,
        #[command(flatten)]
        options: Options,
        /// Print what would be replaced, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the last upgrade of each service, and who drives it
    Status {
        /// Only this service
        #[arg(value_parser = services::argument())]
        service: Option<&'static Service>,
        /// Show changes until no upgrade runs, or until Ctrl-C
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Print the records as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the finished upgrades, newest first
    History {
        /// Only this service
        #[arg(value_parser = services::argument())]
        service: Option<&'static Service>,
        /// Print the records as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct AudienceArgs {
    /// This share of the users, instead of the steps
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: Option<u8>,
    /// Requests with this header, such as `X-Canary: 1`
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Option<(String, String)>,
    /// This user, by nickname; can be repeated
    #[arg(long, value_name = "NAME")]
    user: Vec<String>,
}

fn parse_header(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it like `X-Canary: 1`")?;
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    for part in [&name, &value] {
        MatchText::try_from(part.clone()).map_err(|error| error.to_string())?;
    }
    Ok((name, value))
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let mut session = Session::open().await?;
    match args.action {
        Action::Roll { service, to, options, dry_run } => {
            let services =
                if service == ALL { order() } else { vec![Service::find(&service).expect("clap checks it")] };
            check_version(&session, &services, &to).await?;
            let intent = Intent { kind: Kind::Roll, to, audience: None, judgement: Judgement::Traffic, options };
            start(&session, services, intent, dry_run).await
        }
        Action::Try { service, to, audience, no_wait, options, dry_run } => {
            check_version(&session, &[service], &to).await?;
            let audience = Some(session.audience(audience, &options).await?);
            let intent = Intent { kind: Kind::Try, to, audience, judgement: Judgement::Traffic, options };
            session.returns_when_good = no_wait;
            start(&session, vec![service], intent, dry_run).await
        }
        Action::Undo { service, options, dry_run } => {
            let last = session.store.history(service.name).await?.into_iter().next();
            let last = last.filter(|record| record.phase == Phase::Done).ok_or_else(|| {
                failure!(
                    Usage,
                    "there is nothing to undo: the last upgrade of {service} was not finished. See mfupgrade history"
                )
            })?;
            let to = last.from;
            check_version(&session, &[service], &to).await?;
            let intent = Intent { kind: Kind::Undo, to, audience: None, judgement: Judgement::Health, options };
            start(&session, vec![service], intent, dry_run).await
        }
        Action::Promote { service } => session.request(service, Request::Promote).await,
        Action::Abort { service } => session.request(service, Request::Abort).await,
        Action::Resume { service } => session.resume(service).await,
        Action::Status { service, watch: true, .. } => view::watch(&session, service).await,
        Action::Status { service, json, .. } => {
            let listed = session.list(service).await?;
            if json {
                print_json(&listed);
            } else {
                print_line!("{}", view::status(&listed));
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::History { service, json } => {
            let records = session.history(service).await?;
            if json {
                print_json(&records);
            } else {
                view::print_history(&records);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Checks that every service can be started in this version, before anything changes.
async fn check_version(session: &Session, services: &[&'static Service], version: &str) -> Result<()> {
    let build = session.runtime.build(&session.stack.home, version).await?;
    match session.runtime {
        Runtime::Processes(_) => {
            services.iter().try_for_each(|service| build.program(&session.stack.home, service).map(drop))
        }
        // An image has the programs of all services.
        Runtime::Containers(_) => Ok(()),
    }
}

async fn start(session: &Session, services: Vec<&'static Service>, intent: Intent, dry_run: bool) -> Result<ExitCode> {
    if dry_run {
        for service in services {
            view::print_plan(service, &intent, session.plan(service, &intent).await?.as_ref());
        }
        return Ok(ExitCode::SUCCESS);
    }
    session.roll(services, &intent).await
}
