//! The loop: learn, look, plan, act; again on every change, and every second anyhow, because somebody may have
//! changed HAProxy behind our back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use flack_common::registry::{Mirror, Registry, keys};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    actual::{Actual, ActualServer, Duty},
    admin::Admin,
    announce::{Announcement, announce},
    config::Settings,
    files::{Folder, Saved, save_behind},
    knowledge::Knowledge,
    master,
    plan::{Step, plan},
    render,
    target::{Addresses, Target, target},
};

/// Between two looks when nothing happens.
const REPAIR_INTERVAL: Duration = Duration::from_secs(1);
/// While something drains, or a step did not work.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const HAPROXY_AWAY_INTERVAL: Duration = Duration::from_millis(100);
/// An instance that drains is told that it was let go after this, whoever is still connected: these may finish,
/// and nobody new comes. Websockets would hold it up for hours.
const LET_GO_AFTER: Duration = Duration::from_millis(500);
/// At the start: how long to wait for the registry before going on with the last good state.
const FIRST_COPY_TIMEOUT: Duration = Duration::from_secs(2);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
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

/// What a pass leaves to the next one.
#[derive(Debug, Default)]
struct Memory {
    knowledge: Knowledge,
    addresses: Addresses,
    mark: bool,
    draining: BTreeMap<(String, String), Instant>,
    /// `None`: not seen yet.
    haproxy_is_there: Option<bool>,
    reload_failed: Option<(String, Instant)>,
    /// Steps that did not work last time.
    failed: Vec<Step>,
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
            self.save_now(memory, &target).await;
            return HAPROXY_AWAY_INTERVAL;
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

    async fn save_now(&self, memory: &Memory, target: &Target) {
        if let Err(error) = self.folder.save(&self.saved(memory, target)).await {
            error!(error = format!("{error:#}"), "the files for the start of HAProxy are not up to date");
        }
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

impl Memory {
    /// Takes in the copy of the registry, when there is a current one. True when that changes anything for us.
    async fn learn(&mut self, mirror: &Mirror) -> bool {
        if !mirror.is_current() {
            // The last good state may have instances whose names have never been looked up by this process.
            return self.look_up().await;
        }
        let before = self.knowledge.clone();
        let copy = mirror.snapshot();
        let mark = self.knowledge.learn(&copy);
        let changed = before != self.knowledge || mark != self.mark;
        self.mark = mark;
        if changed {
            self.look_up().await;
        }
        changed
    }

    /// Addresses of instances that registered with a name. True when one is new.
    async fn look_up(&mut self) -> bool {
        let before = std::mem::take(&mut self.addresses);
        for (service, instance, entry) in self.knowledge.instances() {
            let found = match entry.address.parse::<SocketAddr>() {
                Ok(address) => Some(address),
                Err(_) => look_up(&entry.address).await.or_else(|| before.get(&entry.address).copied()),
            };
            if let Some(address) = found {
                self.addresses.insert(entry.address, address);
            } else {
                warn!(service, instance, address = entry.address, "cannot find the address of an instance");
            }
        }
        before != self.addresses
    }

    fn note_haproxy(&mut self, actual: &io::Result<Actual>) {
        let is_there = actual.is_ok();
        if self.haproxy_is_there != Some(is_there) {
            match actual {
                Ok(actual) => info!(structure = actual.structure, "HAProxy is there"),
                Err(error) => {
                    warn!(%error, "HAProxy does not answer; its files are kept up to date for its start")
                }
            }
            self.haproxy_is_there = Some(is_there);
        }
    }

    fn drain_ages(&mut self, actual: &Actual) -> BTreeMap<(String, String), Duration> {
        let now = Instant::now();
        let is: BTreeSet<(String, String)> = servers(actual)
            .filter(|(_, _, server)| server.duty == Duty::Draining)
            .map(|(service, instance, _)| (service.clone(), instance.clone()))
            .collect();
        self.draining.retain(|key, _| is.contains(key));
        for key in is {
            self.draining.entry(key).or_insert(now);
        }
        self.draining.iter().map(|(key, since)| (key.clone(), now - *since)).collect()
    }

    fn getting_traffic(&mut self, actual: &Actual) -> BTreeSet<(String, String)> {
        let ages = self.drain_ages(actual);
        servers(actual)
            .map(|(service, instance, server)| ((service.clone(), instance.clone()), server))
            .filter(|(key, server)| {
                let let_go = ages.get(key).is_some_and(|age| server.sessions == 0 || *age >= LET_GO_AFTER);
                match server.duty {
                    Duty::Ready => true,
                    Duty::Draining => !let_go,
                    Duty::Maintenance => false,
                }
            })
            .map(|(key, _)| key)
            .collect()
    }

    fn remember_servers(&mut self, target: &Target) {
        self.knowledge.servers = target
            .backends
            .iter()
            .filter(|(_, backend)| !backend.servers.is_empty())
            .map(|(name, backend)| {
                let servers =
                    backend.servers.iter().map(|(name, server)| (name.clone(), server.address.to_string()));
                (name.clone(), servers.collect())
            })
            .collect();
    }
}

fn servers(actual: &Actual) -> impl Iterator<Item = (&String, &String, &ActualServer)> {
    actual.backends.iter().flat_map(|(service, servers)| {
        servers.iter().map(move |(instance, server)| (service, instance, server))
    })
}

async fn look_up(address: &str) -> Option<SocketAddr> {
    timeout(LOOKUP_TIMEOUT, lookup_host(address)).await.ok()?.ok()?.next()
}
