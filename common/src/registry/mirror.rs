//! An always-current copy of everything below a prefix: read once in full, then followed by watch.
//!
//! When etcd is away the copy stays as it was, and says so; whoever reads it decides what that means.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Registry, RegistryError};

/// How long `mirror` waits for the first full copy.
const FIRST_COPY_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keys and values; cheap to clone.
pub type Entries = Arc<BTreeMap<String, String>>;

#[derive(Debug, Clone, Default)]
struct View {
    entries: Entries,
    /// Has been read in full at least once.
    full: bool,
    /// The watch runs: what is here is what etcd has.
    current: bool,
}

/// A handle to the copy; the copy is followed as long as a handle is there.
#[derive(Debug, Clone)]
pub struct Mirror {
    view: watch::Receiver<View>,
}

impl Registry {
    /// Follows everything below `prefix`. Returns when the copy is full, or fails when that takes too long.
    pub async fn mirror(&self, prefix: &str) -> anyhow::Result<Mirror> {
        let mut mirror = self.mirror_lazily(prefix);
        timeout(FIRST_COPY_TIMEOUT, mirror.view.wait_for(|view| view.full))
            .await
            .with_context(|| format!("no copy of {prefix} from the registry within {FIRST_COPY_TIMEOUT:?}"))?
            .context("the process is stopping")?;
        Ok(mirror)
    }

    /// The same without waiting: the copy is empty and not current until etcd has answered.
    pub fn mirror_lazily(&self, prefix: &str) -> Mirror {
        self.mirror_until(prefix, self.stopping().clone())
    }
}

impl Registry {
    fn mirror_until(&self, prefix: &str, stopping: CancellationToken) -> Mirror {
        let (sender, view) = watch::channel(View::default());
        tokio::spawn(follow(self.clone(), prefix.to_owned(), sender, stopping));
        Mirror { view }
    }
}

impl Mirror {
    /// The copy as it is now.
    pub fn snapshot(&self) -> Entries {
        self.view.borrow().entries.clone()
    }

    /// The values below the prefix that can be read as `T`, by key. Others are skipped: one bad entry must not
    /// hide the good ones.
    pub fn values<T: serde::de::DeserializeOwned>(&self) -> BTreeMap<String, T> {
        self.snapshot()
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), serde_json::from_str(value).ok()?)))
            .collect()
    }

    /// Whether the copy is what etcd has, as far as can be known; false while etcd is away.
    pub fn is_current(&self) -> bool {
        self.view.borrow().current
    }

    /// Whether it has been read in full at least once.
    pub fn is_full(&self) -> bool {
        self.view.borrow().full
    }

    /// Waits until the copy, or its being current, has changed since the last call on this handle. False when
    /// nothing will change any more because the process is stopping.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    /// Waits until the copy satisfies `condition`; gives the copy, or none when the process is stopping.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Entries) -> bool) -> Option<Entries> {
        self.view.wait_for(|view| condition(&view.entries)).await.ok().map(|view| view.entries.clone())
    }
}

async fn follow(
    registry: Registry,
    prefix: String,
    sender: watch::Sender<View>,
    stopping: CancellationToken,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let error = tokio::select! {
            error = follow_until_error(&registry, &prefix, &sender, &mut pause) => error.unwrap_err(),
            () = stopping.cancelled() => return,
            () = sender.closed() => return,
        };
        let was_current = sender.borrow().current;
        if was_current {
            warn!(prefix, error = format!("{error:#}"), "registry lost; keeping the last copy");
            sender.send_modify(|view| view.current = false);
        }
        registry.reconnect().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            () = stopping.cancelled() => return,
            () = sender.closed() => return,
        }
    }
}

async fn follow_until_error(
    registry: &Registry,
    prefix: &str,
    sender: &watch::Sender<View>,
    pause: &mut Duration,
) -> anyhow::Result<Infallible> {
    let (entries, revision) = registry.read_prefix(prefix).await?;
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let mut stream = registry
        .call("watch", |mut etcd| {
            let options = options.clone();
            async move { etcd.watch(prefix, Some(options)).await }
        })
        .await?;
    // The first answer says whether the watch stands: only then is the copy current.
    let first = stream.message().await?.context("the watch ended at once")?;
    check(&first)?;
    let before = sender.borrow().clone();
    if before.full && !before.current {
        info!(prefix, revision, "registry is back; read in full");
    }
    *pause = PAUSE_MIN;
    sender.send_replace(View { entries: Arc::new(entries), full: true, current: true });
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

/// Copies on write: readers keep the snapshot they took. Prefixes here hold some thousand entries at most.
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

impl Registry {
    /// Waits until a key is gone; false when it is still there at the end of `patience`.
    pub async fn wait_until_deleted(&self, key: &str, patience: Duration) -> Result<bool, RegistryError> {
        // Ask first: mostly it is gone already, and a mirror costs a stream.
        if self.get(key).await?.is_none() {
            return Ok(true);
        }
        // A process that leaves is stopping already: this wait has to outlive that, bounded by its patience.
        let mut mirror = self.mirror_until(key, CancellationToken::new());
        let gone = mirror.view.wait_for(|view| view.full && !view.entries.contains_key(key));
        Ok(matches!(timeout(patience, gone).await, Ok(Ok(_))))
    }
}
