//! The loop: learn, look, plan, act; again on every change, and every second anyhow, because somebody may have
//! changed HAProxy behind our back.

mod memory;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use flack_common::registry::{Registry, keys};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    actual::Actual,
    admin::Admin,
    announce::{Announcement, announce},
    config::Settings,
    files::{Folder, Saved, save_behind},
    master,
    plan::{Step, plan},
    render,
    target::{Target, target},
};

use memory::Memory;

/// Between two looks when nothing happens.
const REPAIR_INTERVAL: Duration = Duration::from_secs(1);
/// While something drains, or a step did not work.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const HAPROXY_AWAY_INTERVAL: Duration = Duration::from_millis(100);
/// At the start: how long to wait for the registry before going on with the last good state.
const FIRST_COPY_TIMEOUT: Duration = Duration::from_secs(2);
/// After a reload that did not work, the same is not tried again for this long.
const RELOAD_PAUSE: Duration = Duration::from_secs(30);
/// HAProxy takes a command with its payload into one buffer (tune.bufsize).
const MAP_ENTRIES_PER_COMMAND_MAX: usize = 100;

/// The agent, ready to run.
#[derive(Debug)]
pub struct Agent {
    registry: Registry,
    settings: Settings,
    folder: Folder,
    admin: Admin,
}

impl Agent {
    pub fn new(registry: Registry, settings: Settings, dir: PathBuf) -> Self {
        let admin = Admin::new(dir.join("admin.sock"));
        let folder = Folder::new(dir, settings.program.clone());
        Self { registry, settings, folder, admin }
    }

    /// Never ends by itself.
    pub async fn run(&self) {
        let mut memory = Memory { knowledge: self.folder.load(), ..Memory::default() };
        let mut mirror = self.registry.mirror_lazily(keys::ROOT);
        let first = async { while !mirror.is_full() && mirror.changed().await {} };
        if timeout(FIRST_COPY_TIMEOUT, first).await.is_err() {
            warn!("the registry is away; starting with the last good state");
        }
        let (saved, latest) = watch::channel(Saved::default());
        tokio::spawn(save_behind(self.folder.clone(), latest));
        let (announced, announcements) = watch::channel(None);
        tokio::spawn(announce(self.registry.clone(), mirror.clone(), announcements));

        memory.learn(&mirror).await;
        loop {
            let pause = self.pass(&mut memory, &saved, &announced).await;
            let wake = Instant::now() + pause;
            // The registry changes for many reasons (tokens, our own keys): most are none of ours.
            loop {
                tokio::select! {
                    () = sleep(wake.saturating_duration_since(Instant::now())) => break,
                    more = mirror.changed() => {
                        if !more {
                            return;
                        }
                        if memory.learn(&mirror).await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// One look and what follows from it; tells when to look again.
    async fn pass(
        &self,
        memory: &mut Memory,
        saved: &watch::Sender<Saved>,
        announced: &watch::Sender<Option<Announcement>>,
    ) -> Duration {
        let mut actual = Actual::read(&self.admin).await;
        memory.note_haproxy(&actual);
        let mut target = target(&memory.knowledge, &memory.addresses, actual.as_ref().ok());
        if let Ok(is) = &actual
            && self.reload_if_needed(memory, &target, is).await
        {
            actual = Actual::read(&self.admin).await;
            target = crate::target::target(&memory.knowledge, &memory.addresses, actual.as_ref().ok());
        }
        let Ok(mut actual) = actual else {
            memory.remember_servers(&target);
            let up = target.backends.iter().flat_map(|(service, backend)| {
                backend.servers.keys().map(|instance| (service.clone(), instance.clone()))
            });
            announced.send_replace(Some(Announcement { up: up.collect(), mark: memory.mark }));
            return self.save_now(memory, &target).await;
        };

        let draining = memory.drain_ages(&actual);
        let steps = plan(&target, &actual, &draining);
        let mut failed = Vec::new();
        for step in &steps {
            if let Err(error) = self.take(step).await {
                // Mostly a server that still has a connection. Said once, tried until it works.
                if !memory.failed.contains(step) {
                    let error = format!("{error:#}");
                    warn!(?step, error, "HAProxy did not take a step; trying until it does");
                }
                failed.push(step.clone());
            }
        }
        let well = failed.is_empty();
        memory.failed = failed;
        if !steps.is_empty() {
            // What follows must be said of what is, not of what was.
            match Actual::read(&self.admin).await {
                Ok(now) => actual = now,
                Err(_) => return HAPROXY_AWAY_INTERVAL,
            }
        }
        let up = memory.getting_traffic(&actual);
        announced.send_if_modified(|before| {
            let now = Some(Announcement { up, mark: memory.mark });
            let changed = *before != now;
            *before = now;
            changed
        });
        memory.remember_servers(&target);
        let now = self.saved(memory, &target);
        saved.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if well && memory.draining.is_empty() { REPAIR_INTERVAL } else { BUSY_INTERVAL }
    }

    /// True when a new worker runs.
    async fn reload_if_needed(&self, memory: &mut Memory, target: &Target, actual: &Actual) -> bool {
        let structure = render::structure(&self.settings, target);
        if actual.structure == structure {
            return false;
        }
        if let Some((failed, at)) = &memory.reload_failed
            && *failed == structure
            && at.elapsed() < RELOAD_PAUSE
        {
            return false;
        }
        memory.remember_servers(target);
        let reload = async {
            self.folder.save(&self.saved(memory, target)).await?;
            master::reload(self.folder.dir(), &self.admin, &structure).await.context("reload")
        };
        match reload.await {
            Ok(()) => {
                info!(structure, "a service or a setting is new: HAProxy has reloaded");
                memory.reload_failed = None;
                true
            }
            Err(error) => {
                error!(error = format!("{error:#}"), "HAProxy was not reloaded; it goes on as it was");
                memory.reload_failed = Some((structure, Instant::now()));
                false
            }
        }
    }

    fn saved(&self, memory: &Memory, target: &Target) -> Saved {
        Saved { files: render::files(&self.settings, target), knowledge: memory.knowledge.clone() }
    }

    /// For the start of HAProxy; tells when to look for it again.
    async fn save_now(&self, memory: &mut Memory, target: &Target) -> Duration {
        let Err(error) = self.folder.save(&self.saved(memory, target)).await else {
            memory.save_failed = None;
            return HAPROXY_AWAY_INTERVAL;
        };
        let error = format!("{error:#}");
        if memory.save_failed.as_ref() != Some(&error) {
            error!(error, "the files for the start of HAProxy are not up to date");
            memory.save_failed = Some(error);
        }
        REPAIR_INTERVAL
    }

    /// Takes a step and logs it. When it does not work, the next pass finds that, and tries again.
    async fn take(&self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Map { file, entries } => self.replace_map(file, entries).await?,
            _ => self.command(step).await?,
        }
        info!(?step, "HAProxy changed");
        Ok(())
    }

    async fn command(&self, step: &Step) -> anyhow::Result<()> {
        let Some((command, wanted)) = step.command() else { return Ok(()) };
        let answer = self.admin.ask(&command).await?;
        let answer = answer.trim();
        if wanted.is_empty() && !answer.is_empty() || !answer.contains(wanted) {
            bail!("{answer}");
        }
        Ok(())
    }

    async fn replace_map(&self, file: &str, entries: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let answer = self.admin.ask(&format!("prepare map {file}")).await?;
        let version: u32 = answer
            .trim()
            .strip_prefix("New version created: ")
            .and_then(|number| number.parse().ok())
            .with_context(|| answer.trim().to_owned())?;
        let lines: Vec<String> = entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        for chunk in lines.chunks(MAP_ENTRIES_PER_COMMAND_MAX) {
            let answer = self.admin.ask(&format!("add map @{version} {file} <<\n{}", chunk.concat())).await?;
            if !answer.trim().is_empty() {
                bail!("{}", answer.trim());
            }
        }
        let answer = self.admin.ask(&format!("commit map @{version} {file}")).await?;
        if !answer.trim().is_empty() {
            bail!("{}", answer.trim());
        }
        Ok(())
    }
}
