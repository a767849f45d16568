//! The key that signs. Made once for each database, at first need, and announced before it signs anything.

use std::sync::Arc;

use flack_api::{Context, Problem};
use flack_common::{auth::SigningKey, database};
use tokio::sync::OnceCell;
use tracing::{error, warn};

use crate::{
    announce::Announcer,
    store::{Store, StoredKey},
};

#[derive(Debug)]
pub struct SigningKeys {
    store: Store,
    announcer: Arc<Announcer>,
    current: OnceCell<SigningKey>,
}

impl SigningKeys {
    pub fn new(store: Store, announcer: Arc<Announcer>) -> Self {
        Self { store, announcer, current: OnceCell::new() }
    }

    /// The key, as it was stored by whoever was first. 503 while it cannot be stored or announced: a token that
    /// nobody can verify is of no use.
    pub async fn current(&self, context: &Context) -> Result<&SigningKey, Problem> {
        self.current.get_or_try_init(|| self.load(context)).await
    }

    async fn load(&self, context: &Context) -> Result<SigningKey, Problem> {
        let offered = SigningKey::generate().map_err(unusable)?;
        let stored = StoredKey { id: offered.key_id().to_owned(), private_key: offered.to_pkcs8() };
        let stored = self
            .store
            .signing_key(context, &stored, &offered.public_jwk())
            .await
            .map_err(database::problem)?;
        let key = SigningKey::from_pkcs8(&stored.id, &stored.private_key).map_err(unusable)?;
        self.announcer.repair().await.map_err(|error| {
            warn!(error = format!("{error:#}"), "cannot announce the signing key");
            Problem::unavailable("the registry")
        })?;
        Ok(key)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unusable(error: anyhow::Error) -> Problem {
    error!(error = format!("{error:#}"), "there is no usable signing key");
    Problem::internal()
}
