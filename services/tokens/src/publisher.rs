//! The publisher of public keys and revocations: gives them to the verifier of this process, then to the registry, if
//! there is one.
//!
//! The database is the source of truth; the registry is a copy that is repaired from it. A revocation that cannot be
//! published stays marked as unpublished and is published when the registry is available again.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use flack_api::{Context, Problem, TokenCaller};
use flack_common::{
    auth::Verifier,
    authority::Ownership,
    process::Background,
    registry::{Registry, RegistryError, keys},
};
use tokio::sync::Notify;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    model,
    store::{Revocation, Store},
};

/// Pause between two polls for unpublished revocations. A poll is cheap, and a user who changed the password waits for
/// it.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Pause between two comparisons with the registry, which can lose entries (a restored backup).
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);

/// Revocations published before they are marked as published.
const BATCH_REVOCATIONS_MAX: i64 = 100;

/// The registry grants no shorter lease.
const LEASE_MIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Publisher {
    store: Store,
    verifier: Arc<Verifier>,
    registry: Option<Registry>,
    wake: Arc<Notify>,
}

impl Publisher {
    pub fn new(store: Store, verifier: Arc<Verifier>, registry: Option<Registry>) -> Self {
        Self { store, verifier, registry, wake: Arc::default() }
    }

    /// Publishes the revocation of the caller's token. 503 when the registry is unavailable.
    pub async fn revoke(&self, context: &Context, caller: &TokenCaller) -> Result<(), Problem> {
        let expires_at = chrono::DateTime::from_timestamp(caller.expires_at, 0).unwrap_or_else(Utc::now);
        let revocation = Revocation { id: caller.token_id, expires_at };
        if let Err(error) = self.put_revocation(revocation).await {
            warn!(%error, token.id = %revocation.id, "cannot publish a revocation; trying again in the background");
            self.wake();
            return Err(model::revocation_is_pending());
        }
        if let Err(error) = self.store.mark_published(context, &[revocation.id]).await {
            // It is published; publishing it again has no effect.
            warn!(%error, token.id = %revocation.id, "cannot mark a revocation as published");
        }
        Ok(())
    }

    /// Starts the next poll for unpublished revocations now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Starts the background tasks, which work while this process owns tokens.
    pub fn start(self: &Arc<Self>, ownership: &Ownership, background: &Background) {
        let (this, owned) = (Arc::clone(self), ownership.clone());
        background.every_or_notified("publish revocations", POLL_INTERVAL, Arc::clone(&self.wake), move || {
            let (this, owned) = (Arc::clone(&this), owned.clone());
            async move { if owned.is_held() { this.publish_revocations().await } else { Ok(()) } }
        });
        let (this, owned) = (Arc::clone(self), ownership.clone());
        background.every("repair the registry", REPAIR_INTERVAL, move || {
            let (this, owned) = (Arc::clone(&this), owned.clone());
            async move { if owned.is_held() { this.repair().await } else { Ok(()) } }
        });
    }

    /// Publishes the revocations that are not marked as published.
    async fn publish_revocations(&self) -> anyhow::Result<()> {
        loop {
            let revocations = self.store.unpublished_revocations(BATCH_REVOCATIONS_MAX).await?;
            if revocations.is_empty() {
                return Ok(());
            }
            let mut published: Vec<Uuid> = Vec::with_capacity(revocations.len());
            let mut outcome = Ok(());
            for revocation in revocations {
                outcome = self.put_revocation(revocation).await;
                if outcome.is_err() {
                    break;
                }
                published.push(revocation.id);
            }
            if !published.is_empty() {
                self.store.mark_published(&Context::background(), &published).await?;
                info!(tokens = published.len(), "published revocations");
            }
            outcome?;
        }
    }

    /// Publishes every key and revocation that the verifier or the registry does not have, and removes the expired keys
    /// of this database from both. Other keys in the registry belong to another owner of tokens.
    pub async fn repair(&self) -> anyhow::Result<()> {
        let public_keys = self.store.public_keys().await?;
        let expired_keys = self.store.expired_keys().await?;
        let revocations = self.store.current_revocations().await?;
        for id in &expired_keys {
            self.verifier.remove_key(id);
        }
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
                info!(key.id = id, "published a signing key");
            }
        }
        for id in expired_keys {
            if known.contains_key(&keys::jwk(&id)) {
                registry.delete(&keys::jwk(&id)).await?;
                info!(key.id = id, "removed an expired signing key");
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
