//! The signing key of a database: created when the first token is needed, and published before it signs.

use std::sync::Arc;

use flack_api::{Context, Problem};
use flack_common::auth::SigningKey;
use tokio::sync::OnceCell;
use tracing::{error, warn};

use crate::{
    publisher::Publisher,
    store::{Store, StoredKey},
};

#[derive(Debug)]
pub struct SigningKeys {
    store: Store,
    publisher: Arc<Publisher>,
    current: OnceCell<SigningKey>,
}

impl SigningKeys {
    pub fn new(store: Store, publisher: Arc<Publisher>) -> Self {
        Self { store, publisher, current: OnceCell::new() }
    }

    /// Returns the key that all instances sign with. 503 while it cannot be stored or published: no process could
    /// verify its tokens.
    pub async fn current(&self, context: &Context) -> Result<&SigningKey, Problem> {
        self.current.get_or_try_init(|| self.load(context)).await
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
