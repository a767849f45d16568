//! `mf ps`: what runs where, as the supervisor, the registry, the balancer and the processes themselves see it.

mod look;
mod table;

use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::stack::Stack;
use crate::supervisor::{Client, leftovers};

/// Show what runs where: version, health, memory, routes
///
/// `health` is what the process answers itself (/health, /ready); `registry` is whether it is announced there;
/// `balancer` is what HAProxy's own checks say.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfps\n  mfps --json | jq -r '.processes[] | select(.health != \"ready\") | .name'"))]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    let Some(client) = Client::find(&home).await? else {
        return Err(no_stack(&home));
    };
    let stack = Stack::open(&home)?;
    let view = look::look(&stack, &client).await?;
    if args.json {
        print_line!("{}", serde_json::to_string_pretty(&view).expect("a view is plain data"));
    } else {
        table::print(&view);
    }
    Ok(())
}

fn no_stack(home: &Home) -> Failure {
    let left: Vec<String> = if home.exists() {
        leftovers::find(home).into_iter().map(|(name, _)| name).collect()
    } else {
        Vec::new()
    };
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(
            "\nIts supervisor was killed, and these still run: {}. mfdown ends them; mfup ends them and starts anew.",
            left.join(", ")
        )
    };
    Failure::unavailable(format!(
        "the stack in {} does not run. Start it with mfup.{left}",
        home.path().display()
    ))
}
