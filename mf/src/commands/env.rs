//! `mf env`: the environment to run a service by hand, for example in a debugger, as part of a running stack.

use std::collections::BTreeMap;

use flack_catalogue::{MONOLITH, Service};
use flack_handover::protocol::HANDOVER_KEY_PREFIX;
use flack_supervisor::Environment;

use crate::failure::Result;
use crate::help::examples;
use crate::output::print_json;
use crate::runtime;
use crate::services;
use crate::supervisor::inherited_environment;

/// Print the environment to run a service by hand
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfenv users",
    "eval \"$(mfenv users --secrets)\" && cargo run -p flack-users",
    "mfenv users --secrets --json | jq -r .DATABASE_URL",
]))]
pub struct Args {
    /// The service
    #[arg(default_value = MONOLITH, value_parser = services::argument())]
    service: &'static Service,
    /// Also print passwords and URLs that contain one
    #[arg(long)]
    secrets: bool,
    /// As one JSON object instead of shell lines
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args) -> Result<()> {
    let stack = runtime::open().await?;
    let environment = stack.environment(args.service, &format!("{}-by-hand", args.service));
    if args.json {
        let (mut shown, secret) = own(environment);
        shown.extend(secret.into_iter().filter(|_| args.secrets));
        print_json(&shown);
    } else {
        print(environment, args.secrets);
    }
    Ok(())
}

/// Prints shell lines that export the variables of an instance.
pub(super) fn print(environment: Environment, with_secrets: bool) {
    let (mut shown, secret) = own(environment);
    let hidden: Vec<String> = if with_secrets { Vec::new() } else { secret.keys().cloned().collect() };
    shown.extend(secret.into_iter().filter(|_| with_secrets));
    for (name, value) in shown {
        // The path of the state folder may contain a quote.
        print_line!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    if !hidden.is_empty() {
        print_line!("# not shown, because they are secret (use --secrets): {}", hidden.join(", "));
    }
}

/// Returns the variables that the shell does not have: those that may be shown, and secret ones.
fn own(environment: Environment) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let inherited = inherited_environment().0;
    let own = environment.0.into_iter().filter(|(name, _)| !inherited.contains_key(name));
    own.partition(|(name, _)| !is_secret(name))
}

fn is_secret(name: &str) -> bool {
    name == "DATABASE_URL" || name.ends_with("_PASSWORD") || name.starts_with(HANDOVER_KEY_PREFIX)
}
