//! `mf down`: ends everything of one stack; with `--purge` its data too.

use std::fs;

use flack_supervisor::orphans;

use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::infra::postgres;
use crate::supervisor;

/// Stop the whole stack
///
/// Instances leave in good order (requests in flight are finished), then the balancer, then the stores. Data stays, and
/// mfup goes on with it.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("  mfdown\n  mfdown --purge    # and throw its data, logs and secrets away\n  MF_HOME=/tmp/before mfdown"))]
pub struct Args {
    /// Throw away data, logs, settings and secrets of this stack
    #[arg(long)]
    purge: bool,
}

/// All that a stack makes in its folder. Nothing else is ever removed: `MF_HOME` may have been set to a folder of somebody's.
const MADE: [&str; 14] = [
    "log",
    "run",
    "haproxy",
    "etcd",
    "nats",
    "postgres",
    "postgres.partial",
    "postgres.password",
    "secrets",
    "stack.json",
    "stack.partial",
    "mf.sock",
    "supervisor.lock",
    "lock",
];

pub async fn run(args: Args) -> Result<()> {
    let home = Home::from_environment()?;
    if !home.exists() {
        print_line!("No stack runs in {}.", home.path().display());
        return Ok(());
    }
    let _lock = home.lock("down")?;
    let mut ended_any = false;
    if let Some(client) = supervisor::find(&home).await? {
        client.shutdown(|ended| eprintln!("{:12} {}", ended.name, ended.outcome)).await?;
        ended_any = true;
    }
    orphans::stop(&home.supervisor()?, |name| {
        ended_any = true;
        eprintln!("{name:12} stopped (its supervisor had been killed)");
    })
    .await;
    let what = if ended_any { "The stack is stopped" } else { "No stack ran" };
    if args.purge {
        purge(&home)?;
        print_line!("{what}, and nothing of it is left in {}.", home.path().display());
    } else {
        print_line!(
            "{what} in {}. Its data stays: mfup goes on with it, mfdown --purge throws it away.",
            home.path().display()
        );
    }
    Ok(())
}

fn purge(home: &Home) -> Result<()> {
    let holds_other = fs::read_dir(home.path())
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_none_or(|name| !MADE.contains(&name)));
    if holds_other && !home.settings().exists() {
        return Err(Failure::new(
            Exit::Contradiction,
            format!("{} was not made by mfup: nothing is removed", home.path().display()),
        ));
    }
    postgres::remove_data(home)?;
    for name in MADE {
        let path = home.path().join(name);
        let removed = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(|error| Failure::cannot_write(&path, &error))?;
    }
    // Stays when it holds what is not ours.
    let _ = fs::remove_dir(home.path());
    Ok(())
}
