//! A current copy of all keys that begin with a prefix: read once in full, then updated by a watch.
//!
//! While etcd is unavailable the copy does not change, and is marked as not current.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::client::{Registry, RegistryError};
use crate::restart::restart_on_failure;

/// The time within which [`Registry::mirror`] needs a complete copy.
const FIRST_COPY_TIMEOUT: Duration = Duration::from_secs(10);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);

/// Keys and values. Cheap to clone.
pub type Entries = Arc<BTreeMap<String, String>>;

#[derive(Debug, Clone, Default)]
struct View {
    entries: Entries,
    /// Whether the prefix was read at least once.
    complete: bool,
    /// Whether the watch is open: the copy is equal to the keys in etcd.
    current: bool,
}

/// A handle to a copy. The copy is updated until its last handle is dropped.
#[derive(Debug, Clone)]
pub struct Mirror {
    view: watch::Receiver<View>,
}

impl Registry {
    /// Mirrors the keys that begin with `prefix`. Fails when there is no complete copy within a timeout.
    pub async fn mirror(&self, prefix: &str) -> anyhow::Result<Mirror> {
        let mut mirror = self.mirror_lazily(prefix);
        timeout(FIRST_COPY_TIMEOUT, mirror.view.wait_for(|view| view.complete))
            .await
            .with_context(|| format!("no copy of {prefix} from the registry within {FIRST_COPY_TIMEOUT:?}"))?
            .context("the process is stopping")?;
        Ok(mirror)
    }

    /// Like [`Self::mirror`] without waiting: the copy is empty and not current until etcd has answered.
    pub fn mirror_lazily(&self, prefix: &str) -> Mirror {
        self.mirror_until(prefix, self.stopping().clone())
    }

    /// Waits until a key and all keys below it are deleted; returns false when one still exists after `limit`.
    pub async fn wait_until_deleted(&self, key: &str, limit: Duration) -> Result<bool, RegistryError> {
        let below = format!("{key}/");
        let is_deleted =
            |entries: &BTreeMap<String, String>| !entries.keys().any(|other| other == key || other.starts_with(&below));
        // Usually the key is deleted already, and no watch has to be opened.
        if is_deleted(&self.read_prefix(key).await?.0) {
            return Ok(true);
        }
        // Not `stopping`: a draining process has cancelled it already. The wait has its own limit.
        let mut mirror = self.mirror_until(key, CancellationToken::new());
        let deleted = mirror.view.wait_for(|view| view.complete && is_deleted(&view.entries));
        Ok(matches!(timeout(limit, deleted).await, Ok(Ok(_))))
    }

    fn mirror_until(&self, prefix: &str, stopping: CancellationToken) -> Mirror {
        let (sender, view) = watch::channel(View::default());
        tokio::spawn(follow(self.clone(), prefix.to_owned(), sender, stopping));
        Mirror { view }
    }
}

impl Mirror {
    /// Returns the present copy.
    pub fn snapshot(&self) -> Entries {
        self.view.borrow().entries.clone()
    }

    /// Returns the values that can be parsed as `T`, by key. Skips other values: one malformed entry must not hide the
    /// rest.
    pub fn values<T: serde::de::DeserializeOwned>(&self) -> BTreeMap<String, T> {
        self.snapshot()
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), serde_json::from_str(value).ok()?)))
            .collect()
    }

    /// Whether the copy is equal to the keys in etcd; false while etcd is unavailable.
    pub fn is_current(&self) -> bool {
        self.view.borrow().current
    }

    /// Whether the prefix was read at least once.
    pub fn is_complete(&self) -> bool {
        self.view.borrow().complete
    }

    /// Waits until the copy or [`Self::is_current`] has changed since the last call on this handle. Returns false when
    /// the process is stopping.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    /// Waits until the copy satisfies `condition`. Returns the copy, or none when the process is stopping.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Entries) -> bool) -> Option<Entries> {
        self.view.wait_for(|view| condition(&view.entries)).await.ok().map(|view| view.entries.clone())
    }
}

/// Follows the prefix until the process stops or the last handle is dropped.
async fn follow(registry: Registry, prefix: String, sender: watch::Sender<View>, stopping: CancellationToken) {
    let (registry, prefix, sender) = (&registry, prefix.as_str(), &sender);
    let following = restart_on_failure(RESTART_DELAY_MAX, || async {
        let result = follow_until_error(registry, prefix, sender).await.inspect_err(|error| {
            let was_current = sender.borrow().current;
            if was_current {
                warn!(prefix, error = format!("{error:#}"), "the registry is unavailable; the last copy is used");
                sender.send_modify(|view| view.current = false);
            }
        });
        registry.reconnect().await;
        result
    });
    tokio::select! {
        never = following => match never {},
        () = stopping.cancelled() => {}
        () = sender.closed() => {}
    }
}

async fn follow_until_error(
    registry: &Registry,
    prefix: &str,
    sender: &watch::Sender<View>,
) -> anyhow::Result<Infallible> {
    let (entries, revision) = registry.read_prefix(prefix).await?;
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let mut stream = registry
        .call("watch", |mut etcd| {
            let options = options.clone();
            async move { etcd.watch(prefix, Some(options)).await }
        })
        .await?;
    // The copy is current when the first answer has confirmed the watch.
    let first = stream.message().await?.context("the watch ended without an answer")?;
    check(&first)?;
    let before = sender.borrow().clone();
    if before.complete && !before.current {
        info!(prefix, revision, "the registry is available again; the copy was read in full");
    }
    sender.send_replace(View { entries: Arc::new(entries), complete: true, current: true });
    apply(&first, sender);
    loop {
        let answer = stream.message().await?.context("the watch ended")?;
        check(&answer)?;
        apply(&answer, sender);
    }
}

fn check(answer: &WatchResponse) -> anyhow::Result<()> {
    if answer.compact_revision() > 0 {
        bail!("the history was compacted up to revision {}", answer.compact_revision());
    }
    if answer.canceled() {
        bail!("etcd ended the watch: {}", answer.cancel_reason());
    }
    Ok(())
}

/// Applies changes as copy on write: readers keep their snapshot. A prefix has some thousand entries at most.
fn apply(answer: &WatchResponse, sender: &watch::Sender<View>) {
    if answer.events().is_empty() {
        return;
    }
    sender.send_modify(|view| {
        let entries = Arc::make_mut(&mut view.entries);
        for event in answer.events() {
            let Some(entry) = event.kv() else { continue };
            let key = String::from_utf8_lossy(entry.key()).into_owned();
            match event.event_type() {
                EventType::Put => entries.insert(key, String::from_utf8_lossy(entry.value()).into_owned()),
                EventType::Delete => entries.remove(&key),
            };
        }
    });
}
