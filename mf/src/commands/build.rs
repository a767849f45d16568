//! `mf build`: all programs of the stack, and versions of them that run side by side.

mod list;
mod prune;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::Utc;
use flack_common::config::parse_version;
use tokio::process::Command;

use crate::builds::{self, Build, WORKSPACE_VERSION};
use crate::cargo;
use crate::failure::{Failure, Result};
use crate::git;
use crate::help::examples;
use crate::infra::programs;
use crate::runtime::{self, Runtime};

const RELEASE: &str = "release";

/// Build every program of the stack, or a version of the services
///
/// With --version or --from the programs of the services are kept in the state folder (builds/<version>/), beside those
/// of other versions: mfrun <service> --version V starts one. --from builds a commit in a checkout of its own
/// (target/versions/), so that the working tree stays as it is.
///
/// Of a stack in containers, a version is an image: that of docker-compose with the program that was built here, or
/// with --no-build the same program, and with the variables of --env.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = examples(&[
    "mfbuild                                   # what mfup runs",
    "mfbuild --release                         # optimised; run it with MF_PROFILE=release mfup",
    "mfbuild --version 2                       # the working tree as version 2",
    "mfbuild --from v0.1.0 --version 0.1.0-old # a tag, a branch or a commit",
    "mfbuild --version 2-bad --no-build --env FLACK_FAULTS=errors=10%    # a version that fails, for a workshop",
    "mfbuild ls",
    "mfbuild prune --keep 2",
]))]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Optimised: slow to build, fast to run
    #[arg(long)]
    release: bool,
    /// Keep the programs as this version [default with --from: the commit]
    #[arg(long, value_parser = version)]
    version: Option<String>,
    /// Build this commit, branch or tag instead of the working tree
    #[arg(long, value_name = "GIT_REF")]
    from: Option<String>,
    /// A variable for each instance of this version
    #[arg(long, value_name = "NAME=VALUE", value_parser = builds::parse_variable)]
    env: Vec<(String, String)>,
    /// Take the programs as they were built last
    #[arg(long, requires = "version", conflicts_with_all = ["from", "release"])]
    no_build: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Ls(list::Args),
    Prune(prune::Args),
}

fn version(text: &str) -> std::result::Result<String, String> {
    if text == WORKSPACE_VERSION {
        return Err(format!(
            "{text} is the version of the programs that mfup builds; use another one, such as {text}-a"
        ));
    }
    parse_version(text)
}

pub async fn run(args: Args) -> Result<()> {
    let began = Instant::now();
    match (&args.action, &args.version, &args.from) {
        (Some(Action::Ls(list)), ..) => return list::run(list).await,
        (Some(Action::Prune(prune)), ..) => return prune::run(prune).await,
        (None, None, None) if !args.env.is_empty() => {
            return Err(failure!(Usage, "--env belongs to a version: set --version"));
        }
        (None, None, None) => {
            compile(cargo::command(&arguments(&args))).await?;
            eprintln!("built in {:.1} s", began.elapsed().as_secs_f64());
        }
        (None, ..) => keep(args, began).await?,
    }
    Ok(())
}

fn profile(args: &Args) -> &'static str {
    // bin/mf follows the same variable.
    let is_release = args.release || std::env::var_os("MF_PROFILE").is_some_and(|profile| profile == RELEASE);
    if is_release { RELEASE } else { "debug" }
}

fn arguments(args: &Args) -> Vec<&'static str> {
    let mut arguments = cargo::BUILD_PROGRAMS.to_vec();
    if profile(args) == RELEASE {
        arguments.push("--release");
    }
    arguments
}

async fn compile(command: Command) -> Result<()> {
    if !cargo::succeeds(command).await? {
        return Err(failure!(Internal, "the build failed; cargo printed the errors above"));
    }
    Ok(())
}

/// Builds programs and keeps them as a version.
async fn keep(args: Args, began: Instant) -> Result<()> {
    let (mut home, runtime) = runtime::find().await?;
    let containers = match &runtime {
        Some(Runtime::Containers(containers)) => Some(containers),
        _ => None,
    };
    if containers.is_none() {
        home.create()?;
    }
    let commit = match &args.from {
        Some(reference) => Some(git::resolve(reference).await?),
        None if args.no_build => None,
        // Before the build: a change that is made meanwhile may not be a part of it.
        None => git::head().await,
    };
    let version = match (&args.version, &commit) {
        (Some(version), _) => version.clone(),
        (None, Some(commit)) => commit.clone(),
        (None, None) => unreachable!("only --from has no --version, and it has a commit"),
    };
    let mut arguments =
        if containers.is_some() { vec!["build", "--package", "flack-program"] } else { arguments(&args) };
    arguments.extend((containers.is_some() && profile(&args) == RELEASE).then_some("--release"));
    // Before the build, which takes long, and again after it.
    refuse_if_running(runtime.as_ref(), &version).await?;
    let programs = if args.no_build {
        programs::mf()?.parent().map(Path::to_path_buf).unwrap_or_default()
    } else if args.from.is_some() {
        compile_commit(commit.as_deref().unwrap_or_default(), &arguments).await?
    } else {
        compile(cargo::command(&arguments)).await?;
        cargo::target()
    };
    let programs = if args.no_build { programs } else { programs.join(profile(&args)) };
    refuse_if_running(runtime.as_ref(), &version).await?;
    let release = programs.ends_with(RELEASE);
    let build = Build { version, commit, built: Utc::now(), release, env: args.env.into_iter().collect() };
    match containers {
        Some(containers) => {
            let program = (!args.no_build).then(|| programs.join("flack"));
            containers.install(&build, program.as_deref()).await?;
        }
        None => builds::install(&home, &build, &programs)?,
    }
    let (version, seconds) = (&build.version, began.elapsed().as_secs_f64());
    let commit = build.commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    print_line!(
        "version {version} is ready after {seconds:.1} s{commit}. Start an instance: mfrun users --version {version}"
    );
    Ok(())
}

/// Builds a commit in a checkout of its own, and returns its target folder.
async fn compile_commit(commit: &str, arguments: &[&str]) -> Result<PathBuf> {
    let target = cargo::target().join("versions");
    fs::create_dir_all(&target).map_err(Failure::cannot_write(&target))?;
    let lock = File::create(target.join("lock")).map_err(Failure::cannot_write(&target))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting until another mfbuild --from has ended");
        lock.lock().map_err(Failure::cannot_write(&target))?;
    }
    let checkout = target.join("checkout");
    git::check_out(commit, &checkout).await?;
    let mut command = cargo::command(arguments);
    command.current_dir(&checkout).env("CARGO_TARGET_DIR", &target);
    compile(command).await?;
    Ok(target)
}

/// The supervisor would restart a crashed instance with other programs.
async fn refuse_if_running(runtime: Option<&Runtime>, version: &str) -> Result<()> {
    match builds::running(runtime).await?.get(version) {
        Some(instances) => Err(failure!(
            Contradiction,
            "version {version} runs ({}): choose another version, or stop these instances first",
            instances.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        )),
        None => Ok(()),
    }
}
