//! The keys below `/flack/balancer/`: `<service>/<instance>` is present while an instance receives requests. A stopping
//! instance waits until its key is deleted. With several balancers, each agent has a key of its own for each instance,
//! `<service>/<instance>/<name of the balancer>`. The agents' marker is there too (see `last_known`).
//!
//! And the key `/flack/acknowledged/haproxy/<name of the balancer>`: the records of parts that HAProxy's maps follow.

use std::collections::BTreeSet;

use flack_common::registry::{BalancerState, Mirror, Registry, RegistryError, keys};
use flack_handover::protocol::{Acknowledged, BALANCER};
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
    /// The records that HAProxy follows; none while it does not answer.
    pub acknowledged: Option<Acknowledged>,
}

/// Keeps the keys equal to the desired ones, also when another process changes them. Fails when the registry does.
pub async fn acknowledge(
    registry: Registry,
    balancer: Option<String>,
    mut mirror: Mirror,
    mut desired: watch::Receiver<Option<BalancerKeys>>,
) -> Result<(), RegistryError> {
    loop {
        let keys = desired.borrow_and_update().clone();
        if let Some(keys) = keys.filter(|_| mirror.is_current()) {
            write(&registry, balancer.as_deref(), &mirror, &keys).await?;
        }
        tokio::select! {
            more = mirror.changed() => if !more { return Ok(()) },
            more = desired.changed() => if more.is_err() { return Ok(()) },
        }
    }
}

async fn write(
    registry: &Registry,
    balancer: Option<&str>,
    mirror: &Mirror,
    desired: &BalancerKeys,
) -> Result<(), RegistryError> {
    let copy = mirror.snapshot();
    let suffix = balancer.map(|name| format!("/{name}")).unwrap_or_default();
    let own = |key: &str| match (keys::segments(key, keys::BALANCER).as_slice(), balancer) {
        ([service, instance], None) => Some(format!("{service}/{instance}")),
        ([service, instance, name], Some(balancer)) if *name == balancer => Some(format!("{service}/{instance}")),
        _ => None,
    };
    let actual: BTreeSet<ServerName> = copy.keys().filter_map(|key| own(key)).collect();
    // Deletions first, because a stopping instance waits for its own. A new instance does not wait.
    for name in actual.difference(&desired.receiving) {
        registry.delete(&format!("{}{name}{suffix}", keys::BALANCER)).await?;
    }
    let state = BalancerState { state: "up".to_owned() };
    let state = serde_json::to_string(&state).expect("a state is plain data");
    for name in desired.receiving.difference(&actual) {
        registry.put(&format!("{}{name}{suffix}", keys::BALANCER), state.as_str(), None).await?;
    }
    let key = keys::acknowledged(BALANCER, balancer.unwrap_or(BALANCER));
    let acknowledged = desired.acknowledged.as_ref().map(|records| serde_json::to_string(records).expect("texts"));
    if let Some(acknowledged) = acknowledged.filter(|records| copy.get(&key) != Some(records)) {
        registry.put(&key, acknowledged, None).await?;
    }
    if desired.marker_absent && !copy.contains_key(MARKER_KEY) {
        registry.put(MARKER_KEY, "{}", None).await?;
    }
    Ok(())
}
