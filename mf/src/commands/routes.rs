//! `mf routes`: which service and which version gets a request, and how to change it.

mod show;

use clap::Subcommand;
use flack_catalogue::{MONOLITH, Service};
use flack_common::registry::{Split, keys};

use crate::failure::Result;
use crate::help::examples;
use crate::output::print_json;
use crate::registry::{Registry, Snapshot};
use crate::runtime::{self, Runtime};
use crate::services;
use crate::splits::{self, Audience};
use crate::stack::Stack;

/// Show which service and version gets a request, and give a version to some users
///
/// A split gives the instances of one version to a share of the users, to chosen users, or to requests with a header or
/// a cookie. All other requests go to the other versions. When no instance of the version is healthy, the other
/// versions get all requests. A split is one entry in the registry; it stays until it is cleared.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfroutes",
    "mfroutes set users --version 2 --percent 5",
    "mfroutes set users --version 2 --header 'X-Canary: 1'",
    "mfroutes clear users",
]))]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show owners, percentages, versions and splits [default]
    #[command(after_help = examples(&["mfroutes show", "mfroutes show --json | jq '.services[] | select(.split)'"]))]
    Show,
    Set(Set),
    /// Remove the split of a service: all its instances get all requests
    #[command(after_help = examples(&["mfroutes clear users"]))]
    Clear {
        /// The service
        #[arg(value_parser = services::argument())]
        service: &'static Service,
        /// Print what would be deleted, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Give the instances of a version to some users or requests
///
/// Replaces the split that the service has. With several options a request gets the version if one of them matches.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfroutes set users --version 2 --percent 5",
    "mfroutes set messages --version 2 --user ada --user grace",
    "mfroutes set ui --version blue --cookie 'canary=blue'",
    "mfroutes set users --version 2 --percent 0        # nobody, while version 2 starts",
]))]
struct Set {
    /// The service
    #[arg(value_parser = services::argument())]
    service: &'static Service,
    /// The version, which runs or is built
    #[arg(long)]
    version: String,
    #[command(flatten)]
    audience: splits::Options,
    /// Print what would be written, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (home, runtime) = runtime::require().await?;
    let stack = runtime.stack(&home).await?;
    let registry = stack.registry().await?;
    match args.command {
        None | Some(Command::Show) => show::run(&registry.snapshot().await?, args.json),
        Some(Command::Set(set)) => write(&runtime, &stack, &registry, &set, args.json).await?,
        Some(Command::Clear { service, dry_run }) => clear(&registry, service, dry_run, args.json).await?,
    }
    Ok(())
}

async fn write(runtime: &Runtime, stack: &Stack, registry: &Registry, set: &Set, json: bool) -> Result<()> {
    let Set { service, version, audience, dry_run } = set;
    if audience.are_empty() {
        return Err(failure!(
            Usage,
            "who should get version {version}? Add --percent, --header, --cookie or --user; --percent 0 is nobody"
        ));
    }
    let snapshot = registry.snapshot().await?;
    check_version(runtime, stack, &snapshot, service, version).await?;
    let split = audience.split(stack, &snapshot, version).await?;
    if !dry_run {
        registry.put_split(service, &split).await?;
    }
    if json {
        print_json(&serde_json::json!({"key": keys::split(service.name), "split": split, "dry_run": dry_run}));
        return Ok(());
    }
    if *dry_run {
        print_line!("would write {} {}", keys::split(service.name), value(&split));
    }
    let verb = if *dry_run { "would get" } else { "gets" };
    print_line!("{service}: version {version} {verb} {}; the other versions get the rest", Audience(&split));
    for note in notes(&snapshot, service, &split) {
        print_line!("{note}");
    }
    Ok(())
}

/// A version that neither runs nor is built is most likely a typing error. One that is built may start later: with a
/// split, no user gets it before it should.
async fn check_version(
    runtime: &Runtime,
    stack: &Stack,
    snapshot: &Snapshot,
    service: &Service,
    version: &str,
) -> Result<()> {
    let versions = snapshot.versions(service);
    if versions.contains_key(version) || runtime.build(&stack.home, version).await.is_ok() {
        return Ok(());
    }
    let running: Vec<&str> = versions.keys().map(String::as_str).collect();
    let running = match running.as_slice() {
        [] => "none runs".to_owned(),
        running => format!("versions that run are {}", running.join(", ")),
    };
    Err(failure!(
        Usage,
        "no instance of {service} has version {version}, and there is no build of it; {running}. \
         mfbuild ls lists builds"
    ))
}

/// Returns why a split has no effect at present, and how to change that.
fn notes(snapshot: &Snapshot, service: &Service, split: &Split) -> Vec<String> {
    let versions = snapshot.versions(service);
    let mut notes = Vec::new();
    if !versions.contains_key(&split.version) {
        notes.push(format!(
            "The split of {service} has no effect: no instance has version {0}. Start one \
             (mfrun {service} --version {0}), or remove it: \
             mfroutes clear {service}",
            split.version
        ));
    } else if versions.len() == 1 {
        notes.push(format!(
            "The split of {service} has no effect: every instance has version {}. Start another version, or remove it: \
             mfroutes clear {service}",
            split.version
        ));
    }
    let is_routed = snapshot.routes.get(service.name).is_some_and(|route| route.owner == service.name);
    if service.name != MONOLITH && !is_routed {
        notes.push(format!("{service} gets no requests: its paths go to the monolith"));
    }
    notes
}

async fn clear(registry: &Registry, service: &Service, dry_run: bool, json: bool) -> Result<()> {
    let snapshot = registry.snapshot().await?;
    let split = snapshot.splits.get(service.name);
    if !dry_run {
        registry.delete_split(service).await?;
    }
    if json {
        let key = keys::split(service.name);
        print_json(&serde_json::json!({"key": key, "deleted": split, "dry_run": dry_run}));
        return Ok(());
    }
    match split {
        None => print_line!("{service} has no split"),
        Some(split) if dry_run => print_line!("would delete {} {}", keys::split(service.name), value(split)),
        Some(split) => print_line!(
            "{service}: the split is removed. Version {} gets its part of all requests, like other versions",
            split.version
        ),
    }
    Ok(())
}

fn value(split: &Split) -> String {
    serde_json::to_string(split).expect("a split is plain data")
}
