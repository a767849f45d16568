//! A verifier that follows the registry: all processes refuse a token milliseconds after one process has revoked it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tracing::warn;

use super::Verifier;
use crate::{
    process::Background,
    registry::{Mirror, Registry, keys},
};

type Update = fn(&Verifier, &Mirror);

impl Verifier {
    /// Reads all keys and revocations, and follows their changes.
    ///
    /// While the registry is unavailable, the last known state is valid: tokens work until they expire.
    pub async fn from_registry(registry: &Registry, background: &Background) -> anyhow::Result<Arc<Self>> {
        let verifier = Self::standalone();
        let tasks: [(_, _, Update); 2] =
            [("signing keys", keys::JWKS, update_keys), ("revoked tokens", keys::REVOKED, update_revoked)];
        for (name, prefix, update) in tasks {
            let mirror = registry.mirror(prefix).await?;
            update(&verifier, &mirror);
            let verifier = Arc::clone(&verifier);
            background.supervise(name, move || follow(Arc::clone(&verifier), mirror.clone(), update));
        }
        Ok(verifier)
    }
}

async fn follow(verifier: Arc<Verifier>, mut mirror: Mirror, update: Update) {
    loop {
        update(&verifier, &mirror);
        if !mirror.changed().await {
            return;
        }
    }
}

fn update_keys(verifier: &Verifier, mirror: &Mirror) {
    let mut jwks: BTreeMap<String, Value> = BTreeMap::new();
    for (key, text) in mirror.snapshot().iter() {
        let [key_id] = keys::segments(key, keys::JWKS)[..] else { continue };
        match serde_json::from_str(text) {
            Ok(jwk) => {
                jwks.insert(key_id.to_owned(), jwk);
            }
            Err(error) => warn!(key_id, %error, "a signing key in the registry is not JSON"),
        }
    }
    verifier.replace_keys(&jwks);
}

fn update_revoked(verifier: &Verifier, mirror: &Mirror) {
    let entries = mirror.snapshot();
    verifier.replace_revoked(entries.keys().filter_map(|key| keys::segments(key, keys::REVOKED).first().copied()));
}
