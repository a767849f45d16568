//! Tells everybody who verifies tokens which keys are good and which tokens are not: the verifier of this process
//! first, then the registry, unless this process is all there is. The monolith links this module too.
//!
//! The database is the truth; what is announced is a copy that is repaired from it. A revocation that could not be
//! announced at once stays marked as such and is announced as soon as that is possible again.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use flack_api::{Context, Problem, TokenCaller};
use flack_common::{
    auth::Verifier,
    registry::{Registry, RegistryError, keys},
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    model,
    store::{Revocation, Store},
};

/// How often to look for revocations that are not announced: because the registry was away, or because a password
/// changed. Looking costs next to nothing, and whoever changed a password waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How soon what the registry lost (restored from a backup, say) is announced again.
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);

/// Revocations announced in one go.
const BATCH_REVOCATIONS_MAX: i64 = 100;

/// The registry takes no shorter lease; a token with less life left is as good as expired.
const LEASE_MIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Announcer {
    store: Store,
    verifier: Arc<Verifier>,
    registry: Option<Registry>,
    wake: Notify,
}

impl Announcer {
    pub fn new(store: Store, verifier: Arc<Verifier>, registry: Option<Registry>) -> Self {
        Self { store, verifier, registry, wake: Notify::new() }
    }

    /// Announces that the caller's token is revoked; 503 when not everybody can have heard of it yet.
    pub async fn revoke(&self, context: &Context, caller: &TokenCaller) -> Result<(), Problem> {
        let expires_at = chrono::DateTime::from_timestamp(caller.expires_at, 0).unwrap_or_else(Utc::now);
        let revocation = Revocation { id: caller.token_id, expires_at };
        if let Err(error) = self.put_revocation(revocation).await {
            warn!(%error, token.id = %revocation.id, "the registry does not know of a revocation yet");
            self.wake();
            return Err(model::revocation_is_pending());
        }
        if let Err(error) = self.store.mark_published(context, &[revocation.id]).await {
            // It is announced, which is what was asked for; announcing it again later does no harm.
            warn!(%error, token.id = %revocation.id, "could not note that a revocation was announced");
        }
        Ok(())
    }

    /// There are revocations to announce: do not wait for the next round.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Runs until `stopping`; pauses while `owns` says that tokens belong to somebody else.
    pub async fn run(self: Arc<Self>, owns: impl Fn() -> bool + Send, stopping: CancellationToken) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut repaired: Option<Instant> = None;
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
                () = stopping.cancelled() => return,
            }
            if !owns() {
                repaired = None;
                continue;
            }
            let mut outcome = self.announce_leftovers().await;
            if outcome.is_ok() && repaired.is_none_or(|moment| moment.elapsed() >= REPAIR_INTERVAL) {
                outcome = self.repair().await;
                repaired = Some(Instant::now());
            }
            match outcome {
                Ok(()) => failing = false,
                // Once per trouble, not five times a second.
                Err(error) if !failing => {
                    warn!(error = format!("{error:#}"), "cannot announce keys and revocations; trying on");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Announces the revocations that nobody has been told of.
    async fn announce_leftovers(&self) -> anyhow::Result<()> {
        loop {
            let revocations = self.store.unpublished_revocations(BATCH_REVOCATIONS_MAX).await?;
            if revocations.is_empty() {
                return Ok(());
            }
            let mut announced: Vec<Uuid> = Vec::with_capacity(revocations.len());
            let mut outcome = Ok(());
            for revocation in revocations {
                outcome = self.put_revocation(revocation).await;
                if outcome.is_err() {
                    break;
                }
                announced.push(revocation.id);
            }
            if !announced.is_empty() {
                self.store.mark_published(&Context::background(), &announced).await?;
                info!(tokens = announced.len(), "announced revocations");
            }
            outcome?;
        }
    }

    /// Compares what is announced with the database, and announces what is missing.
    pub async fn repair(&self) -> anyhow::Result<()> {
        let public_keys = self.store.public_keys().await?;
        let revocations = self.store.standing_revocations().await?;
        for (id, jwk) in &public_keys {
            self.verifier.add_key(id, jwk)?;
        }
        for revocation in &revocations {
            self.verifier.revoke(revocation.id, revocation.expires_at.timestamp());
        }
        let Some(registry) = &self.registry else { return Ok(()) };

        let known = registry.get_prefix(keys::JWKS).await?;
        for (id, jwk) in &public_keys {
            let (key, value) = (keys::jwk(id), jwk.to_string());
            if known.get(&key) != Some(&value) {
                registry.put(&key, value, None).await?;
                info!(key.id = id, "announced a signing key");
            }
        }
        if revocations.is_empty() {
            return Ok(());
        }
        let known = registry.get_prefix(keys::REVOKED).await?;
        for revocation in revocations {
            if !known.contains_key(&keys::revoked(&revocation.id.to_string())) {
                self.put_revocation(revocation).await?;
            }
        }
        Ok(())
    }

    async fn put_revocation(&self, revocation: Revocation) -> Result<(), RegistryError> {
        self.verifier.revoke(revocation.id, revocation.expires_at.timestamp());
        let Some(registry) = &self.registry else { return Ok(()) };
        let remaining = (revocation.expires_at - Utc::now()).to_std().unwrap_or_default();
        let key = keys::revoked(&revocation.id.to_string());
        let value = serde_json::json!({ "expires_at": revocation.expires_at.timestamp() });
        registry.put(&key, value.to_string(), Some(remaining.max(LEASE_MIN))).await
    }
}
