//! `mf env`: the environment to run a service by hand, for example in a debugger, as part of a running stack.

use std::collections::BTreeMap;

use flack_catalogue::{MONOLITH, Service};

use crate::failure::Result;
use crate::help::examples;
use crate::home::Home;
use crate::output::print_json;
use crate::services;
use crate::stack::Stack;
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

pub fn run(args: &Args) -> Result<()> {
    let stack = Stack::open(&Home::from_environment()?)?;
    let all = stack.environment(args.service, &format!("{}-by-hand", args.service)).0;
    let inherited = inherited_environment().0;
    let own = all.into_iter().filter(|(name, _)| !inherited.contains_key(name));
    let (secret, open): (Vec<_>, Vec<_>) = own.partition(|(name, _)| is_secret(name));
    let shown: BTreeMap<String, String> =
        open.into_iter().chain(secret.iter().filter(|_| args.secrets).cloned()).collect();
    if args.json {
        print_json(&shown);
        return Ok(());
    }
    for (name, value) in shown {
        // The path of the state folder may contain a quote.
        print_line!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    if !args.secrets {
        let names: Vec<&str> = secret.iter().map(|(name, _)| name.as_str()).collect();
        print_line!("# not shown, because they are secret (use --secrets): {}", names.join(", "));
    }
    Ok(())
}

fn is_secret(name: &str) -> bool {
    name == "DATABASE_URL" || name.ends_with("_PASSWORD")
}
