//! Tells instances whether they get traffic: `/flack/balancer/<service>/<instance>` is there while they do. An
//! instance that stops waits for its key to go. Also writes the agent's mark (see `knowledge`).

use std::{collections::BTreeSet, time::Duration};

use flack_common::registry::{BalancerState, Mirror, Registry, RegistryError, keys};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

use crate::knowledge::MARK_KEY;

const PAUSE: Duration = Duration::from_millis(200);

/// What the registry should say about the balancer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Service and instance of everybody who gets traffic.
    pub up: BTreeSet<(String, String)>,
    /// The copy that was learned last had no mark. Only then may one be written: a mark in a registry that has
    /// just lost its data would make the loss look like deletions.
    pub mark: bool,
}

/// Keeps the keys equal to what is announced, also when somebody else changes them.
pub async fn announce(
    registry: Registry,
    mut mirror: Mirror,
    mut announced: watch::Receiver<Option<Announcement>>,
) {
    loop {
        let announcement = announced.borrow_and_update().clone();
        if let Some(announcement) = announcement
            && mirror.is_current()
            && let Err(error) = settle(&registry, &mirror, &announcement).await
        {
            debug!(%error, "cannot tell the registry; trying again");
            if matches!(error, RegistryError::Refused { .. }) {
                warn!(%error, "the agent may not write below /flack/balancer/; check its rights in etcd");
                sleep(PAUSE * 10).await;
            }
            sleep(PAUSE).await;
            continue;
        }
        tokio::select! {
            more = mirror.changed() => if !more { return },
            more = announced.changed() => if more.is_err() { return },
        }
    }
}

async fn settle(
    registry: &Registry,
    mirror: &Mirror,
    announcement: &Announcement,
) -> Result<(), RegistryError> {
    let copy = mirror.snapshot();
    let is: BTreeSet<(String, String)> = copy
        .keys()
        .filter_map(|key| match keys::segments(key, keys::BALANCER)[..] {
            [service, instance] => Some((service.to_owned(), instance.to_owned())),
            _ => None,
        })
        .collect();
    // Who waits for its key to go is in a hurry; who is new is served already.
    for (service, instance) in is.difference(&announcement.up) {
        registry.delete(&keys::balancer(service, instance)).await?;
    }
    let state =
        serde_json::to_string(&BalancerState { state: "up".to_owned() }).expect("a state is plain data");
    for (service, instance) in announcement.up.difference(&is) {
        registry.put(&keys::balancer(service, instance), state.as_str(), None).await?;
    }
    if announcement.mark && !copy.contains_key(MARK_KEY) {
        registry.put(MARK_KEY, "{}", None).await?;
    }
    Ok(())
}
