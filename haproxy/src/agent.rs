//! The reconciliation loop. A pass reads the actual state, plans the differences and applies them. It runs after each
//! change of the registry, and every second because HAProxy may have been changed by hand.

mod state;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flack_common::{
    process::Background,
    registry::{Registry, keys},
};
use flack_handover::protocol::Acknowledged;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    ServerName,
    acknowledge::{BalancerKeys, acknowledge},
    actual::Actual,
    admin_socket::AdminSocket,
    apply::apply,
    config::Config,
    desired::Desired,
    files::{Folder, Saved, save_latest},
    master_socket::reload,
    plan::{DrainTimes, Step, plan},
    servers::instance_of,
};
use state::State;

/// The pause after a pass without changes.
const REPAIR_INTERVAL: Duration = Duration::from_secs(1);
/// The pause while a server drains, or after a step failed.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const HAPROXY_AWAY_INTERVAL: Duration = Duration::from_millis(100);
/// At the start: how long to wait for the registry before the last known state is used.
const FIRST_COPY_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before a failed reload is tried again with the same structure.
const RELOAD_PAUSE: Duration = Duration::from_secs(30);

/// The agent, ready to run.
#[derive(Debug)]
pub struct Agent {
    registry: Registry,
    config: Config,
    folder: Folder,
    admin: AdminSocket,
    /// What the next start of HAProxy and of the agent needs.
    saved: watch::Sender<Saved>,
    keys: watch::Sender<Option<BalancerKeys>>,
}

impl Agent {
    pub fn new(registry: Registry, config: Config, dir: PathBuf) -> Self {
        let admin = AdminSocket::new(dir.join("admin.sock"));
        let folder = Folder::new(dir, config.clone());
        let (saved, keys) = (watch::Sender::default(), watch::Sender::default());
        Self { registry, config, folder, admin, saved, keys }
    }

    /// Runs until the process ends.
    pub async fn run(&self, background: &Background) {
        let mut state = State::new(self.folder.load());
        let mut mirror = self.registry.mirror_lazily(keys::ROOT);
        let first = async { while !mirror.is_complete() && mirror.changed().await {} };
        if timeout(FIRST_COPY_TIMEOUT, first).await.is_err() {
            warn!("the registry is unavailable; starting with its last known state");
        }
        background.spawn("files", save_latest(self.folder.clone(), self.saved.subscribe()));
        let (registry, copy, keys) = (self.registry.clone(), mirror.clone(), self.keys.clone());
        let name = self.config.name.clone();
        background.supervise("acknowledgements", move || {
            acknowledge(registry.clone(), name.clone(), copy.clone(), keys.subscribe())
        });

        state.update(&mirror).await;
        loop {
            state.resolve_again().await;
            let next_pass = Instant::now() + self.pass(&mut state).await;
            loop {
                tokio::select! {
                    () = sleep(next_pass.saturating_duration_since(Instant::now())) => break,
                    more = mirror.changed() => {
                        if !more {
                            return;
                        }
                        // Many keys (tokens, the agent's own keys) do not concern HAProxy.
                        if state.update(&mirror).await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Brings HAProxy closer to the desired state. Returns the pause before the next pass.
    async fn pass(&self, state: &mut State) -> Duration {
        self.add_new_instances(state).await;
        let mut actual = Actual::read(&self.admin).await;
        state.log_haproxy(&actual);
        let mut desired = state.desired(actual.as_ref().ok());
        if let Ok(before) = &actual
            && self.reload_if_needed(state, &desired, before).await
        {
            actual = Actual::read(&self.admin).await;
            desired = state.desired(actual.as_ref().ok());
        }
        let Ok(mut actual) = actual else {
            self.send_keys(state, desired.servers.keys().map(|name| instance_of(name)).collect(), None);
            return self.save_now(state, &desired).await;
        };

        let steps = plan(&desired, &actual, &state.drain_times(&desired, &actual));
        let mut failed = Vec::new();
        for step in &steps {
            if let Err(error) = apply(&self.admin, step).await {
                // Mostly a server that still has a connection. Logged once, tried again until it succeeds.
                if !state.failed_steps.contains(step) {
                    warn!(?step, error = format!("{error:#}"), "HAProxy refused a step; it is tried again");
                }
                failed.push(step.clone());
            }
        }
        state.failed_steps = failed;
        if !steps.is_empty() {
            match Actual::read(&self.admin).await {
                Ok(now) => actual = now,
                Err(_) => return HAPROXY_AWAY_INTERVAL,
            }
        }
        let receiving = state.receiving(&desired, &actual);
        let is_applied = desired.maps.iter().all(|(file, entries)| actual.maps.get(*file) == Some(entries));
        self.send_keys(state, receiving, is_applied.then(|| desired.acknowledged.clone()));
        send_if_changed(&self.saved, to_save(state, &desired));
        state.actual = Some(actual);
        if state.failed_steps.is_empty() && !state.is_draining() { REPAIR_INTERVAL } else { BUSY_INTERVAL }
    }

    /// Adds the servers that the pass before has not seen, so that a new instance need not wait for the reading of the
    /// actual state. The rest of the pass repeats what fails here.
    async fn add_new_instances(&self, state: &mut State) {
        let Some(before) = state.actual.take() else { return };
        let steps = plan(&state.desired(Some(&before)), &before, &DrainTimes::new());
        for step in &steps {
            if matches!(step, Step::Add { server, .. } if !before.servers.contains_key(server)) {
                let _ = apply(&self.admin, step).await;
            }
        }
    }

    fn send_keys(&self, state: &State, receiving: BTreeSet<ServerName>, acknowledged: Option<Acknowledged>) {
        let keys = BalancerKeys { receiving, marker_absent: state.marker_absent, acknowledged };
        send_if_changed(&self.keys, Some(keys));
    }

    /// Returns whether a new worker runs.
    async fn reload_if_needed(&self, state: &mut State, desired: &Desired, actual: &Actual) -> bool {
        let structure = state.structure(&self.config, desired);
        let has_failed = |(failed, at): &(String, Instant)| *failed == structure && at.elapsed() < RELOAD_PAUSE;
        if actual.structure == structure || state.failed_reload.as_ref().is_some_and(has_failed) {
            return false;
        }
        let result = async {
            self.folder.save(&to_save(state, desired)).await?;
            reload(self.folder.dir(), &self.admin, &structure).await.context("reload")
        };
        match result.await {
            Ok(()) => {
                info!(structure, "HAProxy has reloaded for a new service, setting or split");
                state.failed_reload = None;
                true
            }
            Err(error) => {
                error!(error = format!("{error:#}"), "HAProxy did not reload; it keeps its configuration");
                state.failed_reload = Some((structure, Instant::now()));
                false
            }
        }
    }

    /// Writes the files while HAProxy does not answer. Returns the pause before the next pass.
    async fn save_now(&self, state: &mut State, desired: &Desired) -> Duration {
        let error = self.folder.save(&to_save(state, desired)).await.err().map(|error| format!("{error:#}"));
        if let Some(error) = error.as_ref().filter(|_| error != state.save_error) {
            error!(error, "the files for the start of HAProxy are not up to date");
        }
        state.save_error = error;
        if state.save_error.is_none() { HAPROXY_AWAY_INTERVAL } else { REPAIR_INTERVAL }
    }
}

fn to_save(state: &State, desired: &Desired) -> Saved {
    Saved { desired: desired.clone(), last_known: state.last_known.clone() }
}

fn send_if_changed<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let is_changed = *current != value;
        *current = value;
        is_changed
    });
}
