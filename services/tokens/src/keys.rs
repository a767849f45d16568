//! The signing key of a database: created when a token is needed and no key signs, and published before it signs.
//!
//! An operator rotates it by setting `retired_at`; the README says how. The store then refuses tokens of the old key,
//! so that every instance changes to the new one with its next token.

use std::sync::Arc;

use flack_api::{Context, Problem};
use flack_common::auth::SigningKey;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::{
    publisher::Publisher,
    store::{Store, StoredKey},
};

#[derive(Debug)]
pub struct SigningKeys {
    store: Store,
    publisher: Arc<Publisher>,
    /// None until a key is loaded, and again when it was retired.
    current: Mutex<Option<Arc<SigningKey>>>,
}

impl SigningKeys {
    pub fn new(store: Store, publisher: Arc<Publisher>) -> Self {
        Self { store, publisher, current: Mutex::default() }
    }

    /// Returns the key that all instances sign with. 503 while it cannot be stored or published: no process could
    /// verify its tokens.
    pub async fn current(&self, context: &Context) -> Result<Arc<SigningKey>, Problem> {
        let mut current = self.current.lock().await;
        if let Some(key) = &*current {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.load(context).await?);
        *current = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Makes the next call of `current` load the key again, unless another request has done so.
    pub async fn forget(&self, retired: &SigningKey) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|key| key.key_id() == retired.key_id()) {
            info!(key.id = retired.key_id(), "the signing key was retired");
            *current = None;
        }
    }

    async fn load(&self, context: &Context) -> Result<SigningKey, Problem> {
        let offered = SigningKey::generate().map_err(unusable)?;
        let stored = StoredKey { id: offered.key_id().to_owned(), private_key: offered.to_pkcs8() };
        let stored = self.store.signing_key(context, &stored, &offered.public_jwk()).await?;
        let key = SigningKey::from_pkcs8(&stored.id, &stored.private_key).map_err(unusable)?;
        self.publisher.repair().await.map_err(|error| {
            warn!(error = format!("{error:#}"), "cannot publish the signing key");
            Problem::unavailable("the registry")
        })?;
        Ok(key)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of map_err")]
fn unusable(error: anyhow::Error) -> Problem {
    error!(error = format!("{error:#}"), "there is no usable signing key");
    Problem::internal()
}
