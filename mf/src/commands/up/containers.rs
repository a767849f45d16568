//! `mf up` of a stack in containers: compose starts it, and this waits until it serves requests.

use std::time::{Duration, Instant};

use flack_catalogue::{SERVICES, Service};
use tokio::time::sleep;

use super::{Args, print_result, wait_for_answer};
use crate::commands::chaos::Record;
use crate::failure::Result;
use crate::home::Home;
use crate::launch::{Launcher, instances_of};
use crate::logs;
use crate::progress::Progress;
use crate::registry::Registry;
use crate::runtime::{Containers, Runtime, compose};
use crate::settings::{Settings, UpOptions};
use crate::signals::interrupted;
use crate::stack::{Stack, free_names};

/// An instance migrates its database before it registers.
const REGISTER_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(args: Args) -> Result<()> {
    if args.only.is_some() {
        return Err(failure!(Usage, "--only is for processes; in containers: docker-compose up -d etcd nats"));
    }
    let home = Home::from_environment()?;
    let existing = Containers::find(true).await?;
    let was_running = Containers::find(false).await?.is_some();
    let before = match &existing {
        Some(containers) => Some(containers.settings(&containers.home(&home)?).await?),
        None => None,
    };
    let options = UpOptions { port: args.port, stage: args.stage, instances: args.instances.clone(), extras: false };
    let settings = Settings::merge(before.as_ref(), &options)?;
    if let (Some(before), Some(port)) = (before.filter(|_| was_running), args.port)
        && before.port != port
    {
        return Err(failure!(
            Contradiction,
            "this stack runs on port {}. To move it: mfdown, then mfup --port {port}. For a second one, set \
             COMPOSE_PROJECT_NAME",
            before.port
        ));
    }
    let progress = Progress::new();
    let mut command = match &existing {
        Some(containers) => containers.compose().await?,
        None => compose::command()?,
    };
    compose::set_profiles(&mut command, &settings);
    // Otherwise the shell and `.env` have the port, as for docker-compose.
    let is_set = std::env::var_os("FLACK_PORT").is_some();
    if args.port.is_some() || (existing.is_some() && !is_set) {
        compose::set_port(&mut command, settings.port);
    }
    // Containers of other versions, and more of them than one, are as the operator wants them.
    command.args(["up", "-d", "--no-recreate"]);
    if let Some(containers) = &existing {
        command.args(containers.scales().await?);
    }
    compose::run(command).await?;

    let containers = Containers::find(false).await?;
    let containers = containers.ok_or_else(|| failure!(Internal, "no container runs; see docker-compose ps -a"))?;
    let home = containers.home(&home)?;
    let lock = home.lock("up")?;
    let runtime = Runtime::Containers(containers);
    for restored in Record::load(&home)?.restore(Some(&runtime)).await? {
        progress.print(&format!("undone, because mfchaos was killed: {restored}"));
    }
    let mut stack = runtime.stack(&home).await?;
    stack.settings.instances = settings.instances;
    stack.settings.save(&home)?;
    let launcher = Launcher::new(&stack, &runtime, &progress);
    let result = tokio::select! {
        result = launch(&launcher, args.instances.is_some(), was_running) => result,
        () = interrupted() => Err(failure!(Interrupted, "interrupted; the containers that were started still run")),
    };
    result?;
    drop(lock);
    print_result(&launcher, was_running, &args);
    if args.detach || was_running { Ok(()) } else { stay(&stack, &runtime).await }
}

async fn launch(launcher: &Launcher<'_>, has_numbers: bool, was_running: bool) -> Result<()> {
    let step = launcher.progress.step("instances", "waiting until they are in the balancer");
    let registry = launcher.stack.registry().await?;
    for process in launcher.runtime.list().await? {
        if Service::find(&process.group).is_some() {
            wait_until_registered(&registry, &process.group, &process.name).await?;
        }
    }
    step.done("in the balancer");
    if !was_running {
        set_versions(launcher).await?;
    }
    if has_numbers {
        launcher.stop_surplus(&launcher.desired()).await?;
    }
    launcher.start_missing(&launcher.desired()).await?;
    wait_for_answer(launcher.stack).await
}

/// Replaces the instances that compose has started with its own image, if the settings say another version.
async fn set_versions(launcher: &Launcher<'_>) -> Result<()> {
    let Launcher { stack, runtime, progress, .. } = launcher;
    for service in &SERVICES {
        let processes = runtime.list().await?;
        let names = instances_of(&processes, service);
        let version = stack.settings.version(service);
        let is_other = |name: &&String| {
            let process = processes.iter().find(|process| process.name == **name);
            process.and_then(|process| process.version.as_deref()) != Some(version)
        };
        let others: Vec<String> = names.iter().filter(is_other).cloned().collect();
        if others.is_empty() {
            continue;
        }
        let mut new = Vec::new();
        for name in free_names(service, &names, u16::try_from(others.len()).unwrap_or(u16::MAX)) {
            new.push(stack.launch(runtime, service, name).await?);
        }
        launcher.start_instances(new).await?;
        runtime.stop(others, |ended| progress.print_ended(&ended)).await?;
    }
    Ok(())
}

async fn wait_until_registered(registry: &Registry, service: &str, name: &str) -> Result<()> {
    let began = Instant::now();
    while !registry.is_in_balancer(service, name).await.unwrap_or(false) {
        if began.elapsed() > REGISTER_TIMEOUT {
            let seconds = REGISTER_TIMEOUT.as_secs();
            return Err(failure!(Internal, "{name} is not in the balancer after {seconds} s. See why: mflogs {name}"));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Shows the logs until Ctrl-C, which stops the stack.
async fn stay(stack: &Stack, runtime: &Runtime) -> Result<()> {
    let Runtime::Containers(containers) = runtime else { return Ok(()) };
    print_line!("\nIts logs follow. Ctrl-C stops the stack.\n");
    let (all, format) = (logs::Filter::default(), logs::Format::for_terminal());
    tokio::select! {
        result = logs::follow_containers(containers, &all, format) => return result,
        () = interrupted() => {}
    }
    eprintln!("\nstopping");
    let mut command = containers.compose().await?;
    compose::set_profiles(&mut command, &stack.settings);
    command.arg("down");
    compose::run(command).await
}
