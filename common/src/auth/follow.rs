//! The verifier that follows the registry: what one process revokes, every process refuses within milliseconds.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tracing::warn;

use super::Verifier;
use crate::{
    process::Background,
    registry::{Mirror, Registry, keys},
};

impl Verifier {
    /// Reads all keys and revocations, and goes on following them. While the registry is away it knows what
    /// it knew: tokens go on working, and tokens expire in any case.
    pub async fn follow(registry: &Registry, background: &Background) -> anyhow::Result<Arc<Self>> {
        let verifier = Self::local();
        let jwks = registry.mirror(keys::JWKS).await?;
        let revoked = registry.mirror(keys::REVOKED).await?;
        take_keys(&verifier, &jwks);
        take_revoked(&verifier, &revoked);

        let follower = Arc::clone(&verifier);
        background.supervise("follow signing keys", move || {
            follow_mirror(Arc::clone(&follower), jwks.clone(), take_keys)
        });
        let follower = Arc::clone(&verifier);
        background.supervise("follow revoked tokens", move || {
            follow_mirror(Arc::clone(&follower), revoked.clone(), take_revoked)
        });
        Ok(verifier)
    }
}

async fn follow_mirror(
    verifier: Arc<Verifier>,
    mut mirror: Mirror,
    take: fn(&Verifier, &Mirror),
) -> anyhow::Result<()> {
    loop {
        take(&verifier, &mirror);
        if !mirror.changed().await {
            return Ok(());
        }
    }
}

fn take_keys(verifier: &Verifier, mirror: &Mirror) {
    let mut jwks: BTreeMap<String, Value> = BTreeMap::new();
    for (key, text) in mirror.snapshot().iter() {
        let [key_id] = keys::parts(key, keys::JWKS)[..] else { continue };
        match serde_json::from_str(text) {
            Ok(jwk) => {
                jwks.insert(key_id.to_owned(), jwk);
            }
            Err(problem) => warn!(key_id, error = %problem, "a key in the registry is no JSON"),
        }
    }
    verifier.replace_keys(&jwks);
}

fn take_revoked(verifier: &Verifier, mirror: &Mirror) {
    let entries = mirror.snapshot();
    verifier
        .replace_revoked(entries.keys().filter_map(|key| keys::parts(key, keys::REVOKED).first().copied()));
}
