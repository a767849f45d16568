//! How an instance stays known: its entry under a lease of five seconds, renewed, and written again whenever
//! it got lost, for whatever reason. Ends with `leave`.

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use chrono::Utc;
use etcd_client::{EventType, WatchOptions};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{InstanceEntry, Registry, RegistryError, ServiceDefinition, keys};

/// A crashed instance is forgotten after this long; health checks stop its traffic much earlier.
pub const LEASE_SECONDS: u64 = 5;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS);
/// Three renewals may get lost before the lease does.
const RENEW_INTERVAL: Duration = Duration::from_millis(1_200);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// `register` waits this long for the first success; after that it goes on in the background.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an instance that leaves waits for the balancer to let go of it.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(5);
const WEIGHT: u16 = 100;

/// An instance that is known to the others until it leaves, or until its process ends.
pub struct Registration {
    registry: Registry,
    service: String,
    instance: String,
    farewell: String,
    leaving: CancellationToken,
    held: watch::Receiver<Held>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    lease: Option<i64>,
    registered: bool,
}

/// What came of leaving; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deregistration {
    /// The balancer sends nothing here any more.
    Confirmed,
    /// The balancer (or its agent) did not react in time; requests may still come.
    TimedOut,
    /// The registry is away: nobody was told. Health checks will find out.
    RegistryUnavailable,
}

impl fmt::Debug for Registration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registration")
            .field("service", &self.service)
            .field("instance", &self.instance)
            .field("registered", &self.is_registered())
            .finish_non_exhaustive()
    }
}

struct Entry {
    definition_key: String,
    definition: String,
    key: String,
    value: String,
}

impl Registry {
    /// Makes an instance known, and keeps it known. Call it when the instance can serve: the balancer sends
    /// requests from this moment on. When etcd is away, this returns after a bounded wait and goes on trying.
    pub async fn register(
        &self,
        service: &ServiceDefinition,
        instance: &str,
        address: &str,
        version: &str,
    ) -> Registration {
        let value = InstanceEntry {
            address: address.to_owned(),
            version: version.to_owned(),
            weight: WEIGHT,
            started: Utc::now(),
            draining: false,
        };
        let farewell = InstanceEntry { draining: true, ..value.clone() };
        let entry = Entry {
            definition_key: keys::service(&service.name),
            definition: serde_json::to_string(service).expect("a definition is plain data"),
            key: keys::instance(&service.name, instance),
            value: serde_json::to_string(&value).expect("an entry is plain data"),
        };
        // Not a child of `stopping`: the entry is renewed until `leave` takes it out in good order.
        let leaving = CancellationToken::new();
        let (sender, mut held) = watch::channel(Held::default());
        let task = tokio::spawn(keep(self.clone(), entry, sender, leaving.clone()));
        if timeout(FIRST_TIMEOUT, held.wait_for(|held| held.registered)).await.is_err() {
            warn!(service = service.name, instance, "not registered yet; trying on");
        }
        Registration {
            registry: self.clone(),
            service: service.name.clone(),
            instance: instance.to_owned(),
            farewell: serde_json::to_string(&farewell).expect("an entry is plain data"),
            leaving,
            held,
            task,
        }
    }
}

impl Registration {
    /// Whether the entry stands at the moment, as far as we know.
    pub fn is_registered(&self) -> bool {
        self.held.borrow().registered
    }

    /// Says farewell, waits, bounded, until the balancer sends nothing more, then takes the entry out.
    pub async fn deregister(mut self) -> Deregistration {
        self.leaving.cancel();
        // The task may be amid a write: wait for it, or the entry could come back after its removal.
        let _ = (&mut self.task).await;
        let lease = self.held.borrow().lease;
        match self.registry.farewell(&self, lease).await {
            Ok(left) => left,
            Err(error) => {
                warn!(service = self.service, instance = self.instance, %error, "could not leave the registry");
                Deregistration::RegistryUnavailable
            }
        }
    }
}

impl Registry {
    async fn farewell(
        &self,
        registration: &Registration,
        lease: Option<i64>,
    ) -> Result<Deregistration, RegistryError> {
        let key = keys::instance(&registration.service, &registration.instance);
        match self.put_under(&key, &registration.farewell, lease).await {
            // The lease was lost before: nobody sends requests here on our word, so there is nothing to wait for.
            Ok(_) | Err(RegistryError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let balancer = keys::balancer(&registration.service, &registration.instance);
        let let_go = self.wait_until_deleted(&balancer, LET_GO_TIMEOUT).await?;
        self.delete(&key).await?;
        if let Some(lease) = lease {
            // It holds nothing any more; when this fails it runs out by itself.
            let _ = self.revoke(lease).await;
        }
        Ok(if let_go { Deregistration::Confirmed } else { Deregistration::TimedOut })
    }
}

async fn keep(registry: Registry, entry: Entry, held: watch::Sender<Held>, leaving: CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let error = tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            error = hold(&registry, &entry, &held, &mut pause) => error.unwrap_err(),
        };
        let mut was_registered = false;
        held.send_modify(|held| was_registered = std::mem::replace(&mut held.registered, false));
        if was_registered {
            warn!(key = entry.key, error = format!("{error:#}"), "registration lost; registering again");
        }
        registry.reconnect().await;
        tokio::select! {
            () = leaving.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}

/// Registers and renews, until something goes wrong.
async fn hold(
    registry: &Registry,
    entry: &Entry,
    held: &watch::Sender<Held>,
    pause: &mut Duration,
) -> anyhow::Result<Infallible> {
    let lease = registry.grant(LEASE).await?;
    held.send_modify(|held| held.lease = Some(lease));
    registry.put_under(&entry.definition_key, &entry.definition, None).await?;
    let revision = registry.put_under(&entry.key, &entry.value, Some(lease)).await?;
    held.send_modify(|held| held.registered = true);
    info!(key = entry.key, "registered");
    *pause = PAUSE_MIN;

    let (mut keeper, mut renewals) = registry
        .call("renew the lease", |mut etcd| async move { etcd.lease_keep_alive(lease).await })
        .await?;
    let key = entry.key.as_str();
    let options = WatchOptions::new().with_start_revision(revision + 1);
    let mut changes = registry
        .call("watch", |mut etcd| {
            let options = options.clone();
            async move { etcd.watch(key, Some(options)).await }
        })
        .await?;

    let mut renewed = Instant::now();
    let mut tick = tokio::time::interval(RENEW_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if renewed.elapsed() > LEASE {
                    bail!("the lease was not renewed for {LEASE_SECONDS} s");
                }
                keeper.keep_alive().await?;
            }
            answer = renewals.message() => {
                let answer = answer?.context("the renewals ended")?;
                if answer.ttl() <= 0 {
                    bail!("the lease ran out");
                }
                renewed = Instant::now();
            }
            answer = changes.message() => {
                let answer = answer?.context("the watch ended")?;
                if answer.canceled() {
                    bail!("etcd ended the watch: {}", answer.cancel_reason());
                }
                match answer.events().last() {
                    Some(event) if event.event_type() == EventType::Delete => {
                        // By hand, or with the lease: in the latter case this write is refused.
                        warn!(key = entry.key, "somebody deleted our entry; writing it again");
                        registry.put_under(&entry.key, &entry.value, Some(lease)).await?;
                    }
                    Some(event) if event.kv().is_some_and(|kv| kv.value() != entry.value.as_bytes()) => {
                        // The pause of a failure: two processes of one name must not write in a tight loop.
                        bail!("somebody else wrote our entry; is another instance of this name running?");
                    }
                    _ => {}
                }
            }
        }
    }
}
