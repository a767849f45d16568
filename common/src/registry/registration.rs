//! The registration of an instance: its entry with a lease of five seconds, which is renewed. A lost entry is written
//! again.

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use etcd_client::{EventType, WatchOptions};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    client::{Registry, RegistryError},
    keys,
    model::{InstanceEntry, ServiceDefinition},
};
use crate::restart::restart_on_failure;

/// The registry deletes the entry of a crashed instance after this time; health checks stop its traffic much earlier.
pub const LEASE_SECONDS: u64 = 5;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS);
/// Three renewals can fail before the lease expires.
const RENEW_INTERVAL: Duration = Duration::from_millis(1_200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);
/// `register` waits this long for the registration, which then continues in the background.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a draining instance waits until the balancer sends it no more requests.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A registered instance, until [`Registration::deregister`] or the end of the process.
pub struct Registration {
    registry: Registry,
    service: String,
    instance: String,
    draining_entry: String,
    stopping: CancellationToken,
    state: watch::Receiver<RegistrationState>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct RegistrationState {
    lease: Option<i64>,
    is_registered: bool,
}

/// The result of a deregistration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deregistration {
    /// The balancer sends no more requests to the instance.
    Confirmed,
    /// The balancer (or its agent) did not react in time; requests may still arrive.
    TimedOut,
    /// The registry is unavailable; the balancer's health checks have to detect the stop.
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

/// The keys and values that `register` writes.
struct Entry {
    definition_key: String,
    definition: String,
    key: String,
    value: String,
    acknowledged_key: String,
}

impl Registry {
    /// Registers an instance and keeps it registered. Call it when the instance is ready: the balancer sends requests
    /// from then on. While etcd is unavailable, returns after a timeout, and the registration continues in the
    /// background.
    pub async fn register(&self, service: &ServiceDefinition, instance: &str, value: InstanceEntry) -> Registration {
        let entry = Entry {
            definition_key: keys::service(&service.name),
            definition: serde_json::to_string(service).expect("a definition is plain data"),
            key: keys::instance(&service.name, instance),
            value: serde_json::to_string(&value).expect("an entry is plain data"),
            acknowledged_key: keys::acknowledged(&service.name, instance),
        };
        let draining_entry = InstanceEntry { draining: true, ..value };
        // Not the process's `stopping`: the lease is renewed until `deregister` deletes the entry.
        let stopping = CancellationToken::new();
        let (sender, mut state) = watch::channel(RegistrationState::default());
        let task = tokio::spawn(keep_registered(self.clone(), entry, sender, stopping.clone()));
        if timeout(FIRST_TIMEOUT, state.wait_for(|state| state.is_registered)).await.is_err() {
            warn!(service = service.name, instance, "not registered yet; it is retried in the background");
        }
        Registration {
            registry: self.clone(),
            service: service.name.clone(),
            instance: instance.to_owned(),
            draining_entry: serde_json::to_string(&draining_entry).expect("an entry is plain data"),
            stopping,
            state,
            task,
        }
    }
}

impl Registration {
    /// Whether the entry is in the registry, as far as this process knows.
    pub fn is_registered(&self) -> bool {
        self.state.borrow().is_registered
    }

    /// Marks the entry as draining, waits (a limited time) until the balancer sends no more requests, then deletes the
    /// entry.
    pub async fn deregister(mut self) -> Deregistration {
        self.stopping.cancel();
        // The task may be writing the entry: wait, or the write could follow the delete.
        let _ = (&mut self.task).await;
        let lease = self.state.borrow().lease;
        match self.registry.drain_and_delete(&self, lease).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let (service, instance) = (&self.service, &self.instance);
                warn!(service, instance, %error, "the instance could not be deregistered");
                Deregistration::RegistryUnavailable
            }
        }
    }
}

impl Registry {
    async fn drain_and_delete(
        &self,
        registration: &Registration,
        lease: Option<i64>,
    ) -> Result<Deregistration, RegistryError> {
        let key = keys::instance(&registration.service, &registration.instance);
        match self.put_with_lease(&key, &registration.draining_entry, lease).await {
            // Refused: the lease has expired, and the entry with it.
            Ok(_) | Err(RegistryError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let balancer = keys::balancer(&registration.service, &registration.instance);
        let is_drained = self.wait_until_deleted(&balancer, DRAIN_TIMEOUT).await?;
        self.delete(&key).await?;
        if let Some(lease) = lease {
            // The lease has no keys any more; if this fails, it expires.
            let _ = self.revoke(lease).await;
        }
        Ok(if is_drained { Deregistration::Confirmed } else { Deregistration::TimedOut })
    }
}

/// Keeps the entry registered until `stopping`.
async fn keep_registered(
    registry: Registry,
    entry: Entry,
    state: watch::Sender<RegistrationState>,
    stopping: CancellationToken,
) {
    let (registry, entry, state) = (&registry, &entry, &state);
    let registering = restart_on_failure(RESTART_DELAY_MAX, || async {
        let result = register_and_renew(registry, entry, state).await.inspect_err(|error| {
            let was_registered = state.borrow().is_registered;
            if was_registered {
                state.send_modify(|state| state.is_registered = false);
                warn!(key = entry.key, error = format!("{error:#}"), "registration lost; registering again");
            }
        });
        registry.reconnect().await;
        result
    });
    // In a box, because the future is large.
    stopping.run_until_cancelled(Box::pin(registering)).await;
}

/// Registers the entry and renews its lease, until an error.
async fn register_and_renew(
    registry: &Registry,
    entry: &Entry,
    state: &watch::Sender<RegistrationState>,
) -> anyhow::Result<Infallible> {
    let lease = registry.grant(LEASE).await?;
    state.send_modify(|state| state.lease = Some(lease));
    registry.put_with_lease(&entry.definition_key, &entry.definition, None).await?;
    let mut acknowledged = registry.acknowledged();
    acknowledge(registry, entry, lease, &mut acknowledged).await?;
    let revision = registry.put_with_lease(&entry.key, &entry.value, Some(lease)).await?;
    state.send_modify(|state| state.is_registered = true);
    info!(key = entry.key, "registered");

    let (mut renewal_sender, mut renewals) =
        registry.call("renew the lease", |mut etcd| async move { etcd.lease_keep_alive(lease).await }).await?;
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
                renewal_sender.keep_alive().await?;
            }
            Ok(()) = acknowledged.changed() => acknowledge(registry, entry, lease, &mut acknowledged).await?,
            answer = renewals.message() => {
                let answer = answer?.context("the renewals ended")?;
                if answer.ttl() <= 0 {
                    bail!("the lease has expired");
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
                        // Deleted by a person, or with the lease; in the second case etcd refuses this write.
                        warn!(key = entry.key, "the entry was deleted; writing it again");
                        registry.put_with_lease(&entry.key, &entry.value, Some(lease)).await?;
                    }
                    Some(event) if event.kv().is_some_and(|kv| kv.value() != entry.value.as_bytes()) => {
                        // An error has a back-off: two processes with one name must not overwrite each other in a loop.
                        bail!("another process wrote the entry; is another instance of this name running?");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Writes what the instance acknowledges, if it does so.
async fn acknowledge(
    registry: &Registry,
    entry: &Entry,
    lease: i64,
    acknowledged: &mut watch::Receiver<Option<String>>,
) -> Result<(), RegistryError> {
    let Some(records) = acknowledged.borrow_and_update().clone() else { return Ok(()) };
    let key = &entry.acknowledged_key;
    match registry.put_with_lease(key, &records, Some(lease)).await {
        Err(RegistryError::Refused { cause, .. }) => {
            // An account of an older stack lacks the permission. The instance can work: only owners cannot change.
            warn!(key, cause, "the records of parts cannot be acknowledged; run mfup to complete the accounts");
            Ok(())
        }
        result => result.map(drop),
    }
}
