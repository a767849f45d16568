//! The keys below `/flack/balancer/`: `<service>/<instance>` is present while an instance receives requests. A stopping
//! instance waits until its key is deleted. The agent's marker is there too (see `last_known`).

use std::collections::BTreeSet;

use flack_common::registry::{BalancerState, Mirror, Registry, RegistryError, keys};
use tokio::sync::watch;

use crate::{ServerName, last_known::MARKER_KEY};

/// The desired keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalancerKeys {
    /// Instances that receive requests, as `<service>/<instance>`.
    pub receiving: BTreeSet<ServerName>,
    /// Whether the marker was absent from the copy of the registry that the agent has processed last. Only then may it
    /// be written: a marker in a registry that has just lost its data would make lost entries look deleted.
    pub marker_absent: bool,
}

/// Keeps the keys equal to the desired ones, also when another process changes them. Fails when the registry does.
pub async fn acknowledge(
    registry: Registry,
    mut mirror: Mirror,
    mut desired: watch::Receiver<Option<BalancerKeys>>,
) -> Result<(), RegistryError> {
    loop {
        let keys = desired.borrow_and_update().clone();
        if let Some(keys) = keys.filter(|_| mirror.is_current()) {
            write(&registry, &mirror, &keys).await?;
        }
        tokio::select! {
            more = mirror.changed() => if !more { return Ok(()) },
            more = desired.changed() => if more.is_err() { return Ok(()) },
        }
    }
}

async fn write(registry: &Registry, mirror: &Mirror, desired: &BalancerKeys) -> Result<(), RegistryError> {
    let copy = mirror.snapshot();
    let actual: BTreeSet<ServerName> = copy
        .keys()
        .filter(|key| keys::segments(key, keys::BALANCER).len() == 2)
        .map(|key| key[keys::BALANCER.len()..].to_owned())
        .collect();
    // Deletions first, because a stopping instance waits for its own. A new instance does not wait.
    for name in actual.difference(&desired.receiving) {
        registry.delete(&format!("{}{name}", keys::BALANCER)).await?;
    }
    let state = BalancerState { state: "up".to_owned() };
    let state = serde_json::to_string(&state).expect("a state is plain data");
    for name in desired.receiving.difference(&actual) {
        registry.put(&format!("{}{name}", keys::BALANCER), state.as_str(), None).await?;
    }
    if desired.marker_absent && !copy.contains_key(MARKER_KEY) {
        registry.put(MARKER_KEY, "{}", None).await?;
    }
    Ok(())
}
