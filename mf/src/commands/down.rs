//! `mf down`: stops a stack; with `--purge` also deletes it.

use std::fs;

use flack_supervisor::orphans;

use crate::commands::chaos::Record;
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::home::Home;
use crate::infra::postgres;
use crate::runtime::{self, Containers, Runtime, compose};
use crate::supervisor;

/// Stop the whole stack
///
/// Instances drain first (they finish requests in flight), then the balancer stops, then the stores. The data stays for
/// the next mfup.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfdown",
    "mfdown --purge    # and delete its data, logs and secrets",
    "MF_HOME=/tmp/before mfdown",
]))]
pub struct Args {
    /// Delete data, logs, settings and secrets of this stack
    #[arg(long)]
    purge: bool,
}

/// Everything that a stack creates in its folder. Nothing else is deleted, because `MF_HOME` may be any folder.
const CREATED: [&str; 18] = [
    "chaos.json",
    "chaos.partial",
    "log",
    "run",
    "haproxy",
    "handover",
    "builds",
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
    if let Some(containers) = find_containers().await? {
        return down(&containers, args.purge).await;
    }
    let home = Home::from_environment()?;
    if !home.exists() {
        print_line!("No stack runs in {}.", home.path().display());
        return Ok(());
    }
    let _lock = home.lock("down")?;
    let mut any_ended = false;
    let client = supervisor::find(&home).await?;
    // A process that is stopped by SIGSTOP does not drain.
    Record::load(&home)?.restore(client.clone().map(Runtime::Processes).as_ref()).await?;
    if let Some(client) = client {
        client.shutdown(|ended| eprintln!("{:12} {}", ended.name, ended.outcome)).await?;
        any_ended = true;
    }
    orphans::stop(&home.supervisor()?, |name| {
        any_ended = true;
        eprintln!("{name:12} stopped (its supervisor had been killed)");
    })
    .await;
    let what = if any_ended { "The stack is stopped" } else { "No stack ran" };
    if args.purge {
        purge(&home)?;
        print_line!("{what} and deleted from {}.", home.path().display());
    } else {
        print_line!(
            "{what} in {}. Its data stays: mfup uses it again, mfdown --purge deletes it.",
            home.path().display()
        );
    }
    Ok(())
}

/// Returns the stack in containers that is to be stopped; none if the environment selects processes.
async fn find_containers() -> Result<Option<Containers>> {
    match (runtime::Kind::from_environment()?, runtime::find().await?) {
        // Also one that is stopped, which --purge deletes.
        (Some(runtime::Kind::Docker), _) => match Containers::find(true).await? {
            None => Err(failure!(Unavailable, "there is no stack in containers")),
            some => Ok(some),
        },
        (_, (_, Some(Runtime::Containers(containers)))) => Ok(Some(containers)),
        _ => Ok(None),
    }
}

async fn down(containers: &Containers, purge: bool) -> Result<()> {
    let home = containers.home(&Home::from_environment()?)?;
    let lock = home.lock("down")?;
    // A paused container does not drain.
    Record::load(&home)?.restore(Some(&Runtime::Containers(containers.clone()))).await?;
    let project = &containers.project;
    let mut command = containers.compose().await?;
    compose::set_profiles(&mut command, &containers.settings(&home).await?);
    command.args(["down", "--remove-orphans"]);
    if !purge {
        compose::run(command).await?;
        print_line!(
            "The stack {project} is stopped. Its data stays: mfup --runtime docker uses it again, MF_RUNTIME=docker \
             mfdown --purge deletes it."
        );
        return Ok(());
    }
    // Before the containers are removed, which name the image of compose.
    let images = containers.images().await.unwrap_or_default();
    command.arg("--volumes");
    compose::run(command).await?;
    for image in images {
        containers.remove_image(&image).await?;
    }
    drop(lock);
    fs::remove_dir_all(home.path()).map_err(Failure::cannot_write(home.path()))?;
    print_line!("The stack {project} is stopped, and its data, secrets and versions are deleted.");
    Ok(())
}

fn purge(home: &Home) -> Result<()> {
    let has_other_files = fs::read_dir(home.path())
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_none_or(|name| !CREATED.contains(&name)));
    if has_other_files && !home.settings().exists() {
        return Err(failure!(Contradiction, "{} was not created by mfup: nothing is deleted", home.path().display()));
    }
    postgres::remove_data(home)?;
    for name in CREATED {
        let path = home.path().join(name);
        let removed = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(Failure::cannot_write(&path))?;
    }
    // Fails if the folder has other files, which stay.
    let _ = fs::remove_dir(home.path());
    Ok(())
}
