//! Verifies tokens with the keys and revocations in memory.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use chrono::Utc;
use flack_api::{Problem, TokenCaller, VerifyToken};
use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};
use tracing::warn;
use uuid::Uuid;

use super::{
    claims::{ALGORITHM, Claims},
    crypto,
};

/// Our tokens have about 300 bytes.
const TOKEN_BYTES_MAX: usize = 2048;
/// How long a request waits for an unknown key: a token may arrive before its key.
const UNKNOWN_KEY_WAIT: Duration = Duration::from_millis(250);

/// The number of revocations that wait for a subscriber. A slower subscriber gets `Lagged`, and checks all its tokens.
const REVOCATION_QUEUE_MAX: usize = 256;

/// The public keys, and the ids of the revoked tokens.
#[derive(Debug)]
pub struct Verifier {
    known: RwLock<Known>,
    /// The number of changes of the keys, for requests that wait for a key.
    keys_changed: watch::Sender<u64>,
    revocations: broadcast::Sender<Uuid>,
}

#[derive(Debug, Default)]
struct Known {
    /// Added by this process, which owns tokens; not yet in the registry.
    own_keys: HashMap<String, DecodingKey>,
    own_revoked: HashMap<Uuid, i64>,
    /// From the registry; replaced as a whole.
    registry_keys: HashMap<String, DecodingKey>,
    registry_revoked: HashSet<Uuid>,
}

impl Verifier {
    /// Returns a verifier without a registry: only [`Self::add_key`] and [`Self::revoke`] change it.
    pub fn standalone() -> Arc<Self> {
        Arc::new(Self {
            known: RwLock::default(),
            keys_changed: watch::Sender::new(0),
            revocations: broadcast::Sender::new(REVOCATION_QUEUE_MAX),
        })
    }

    /// Returns the channel that receives the id of each revoked token, for long-lived connections.
    pub fn revocations(&self) -> broadcast::Sender<Uuid> {
        self.revocations.clone()
    }

    /// Adds a public key as returned by `SigningKey::public_jwk`.
    pub fn add_key(&self, key_id: &str, jwk: &Value) -> anyhow::Result<()> {
        let key = decoding_key(key_id, jwk)?;
        self.write(|known| known.own_keys.insert(key_id.to_owned(), key));
        self.keys_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Removes a key that `add_key` has added. The registry's copy remains until its owner deletes it there.
    pub fn remove_key(&self, key_id: &str) {
        self.write(|known| known.own_keys.remove(key_id));
    }

    /// Refuses this token from now on. After `expires_at` (unix seconds) the entry is deleted.
    pub fn revoke(&self, token_id: Uuid, expires_at: i64) {
        let now = Utc::now().timestamp();
        self.write(|known| {
            known.own_revoked.retain(|_, expires_at| *expires_at >= now);
            known.own_revoked.insert(token_id, expires_at);
        });
        // An error means that there is no subscriber.
        let _ = self.revocations.send(token_id);
    }

    /// Replaces the keys of the registry. A malformed key is skipped and logged.
    pub(super) fn replace_keys(&self, entries: &BTreeMap<String, Value>) {
        let mut keys = HashMap::new();
        for (key_id, jwk) in entries {
            match decoding_key(key_id, jwk) {
                Ok(key) => {
                    keys.insert(key_id.clone(), key);
                }
                Err(error) => warn!(key_id, %error, "a signing key in the registry is not usable"),
            }
        }
        self.write(|known| known.registry_keys = keys);
        self.keys_changed.send_modify(|count| *count += 1);
    }

    /// Replaces the revoked tokens of the registry, whose leases delete the expired ones.
    pub(super) fn replace_revoked<'a>(&self, token_ids: impl Iterator<Item = &'a str>) {
        let revoked: HashSet<Uuid> = token_ids.filter_map(|id| id.parse().ok()).collect();
        let before = self.write(|known| std::mem::replace(&mut known.registry_revoked, revoked.clone()));
        for token_id in revoked.difference(&before) {
            let _ = self.revocations.send(*token_id);
        }
    }

    /// Returns the key; waits a short time for an unknown one.
    async fn key(&self, key_id: &str) -> Option<DecodingKey> {
        let mut changes = self.keys_changed.subscribe();
        let wait = async {
            loop {
                if let Some(key) = self.read(|known| known.key(key_id)) {
                    return Some(key);
                }
                // Never fails: `self` holds the sender.
                changes.changed().await.ok()?;
            }
        };
        timeout(UNKNOWN_KEY_WAIT, wait).await.ok().flatten()
    }

    fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn key(&self, key_id: &str) -> Option<DecodingKey> {
        self.own_keys.get(key_id).or_else(|| self.registry_keys.get(key_id)).cloned()
    }

    fn is_revoked(&self, token_id: &Uuid) -> bool {
        self.own_revoked.contains_key(token_id) || self.registry_revoked.contains(token_id)
    }
}

#[async_trait]
impl VerifyToken for Verifier {
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        let text = token.expose_secret();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(invalid_token());
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| invalid_token())?;
        // The header is untrusted: check the algorithm before the lookup.
        let (ALGORITHM, Some(key_id)) = (header.alg, header.kid) else { return Err(invalid_token()) };
        let key = self.key(&key_id).await.ok_or_else(invalid_token)?;

        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(text, &key, &validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => expired(),
                _ => invalid_token(),
            })?
            .claims;
        if self.read(|known| known.is_revoked(&claims.jti)) {
            return Err(Problem::unauthorized("the token has been revoked; sign in again"));
        }
        let user_id = claims.sub.parse().map_err(|_| invalid_token())?;
        let Claims { jti: token_id, iat: issued_at, exp: expires_at, .. } = claims;
        Ok(TokenCaller { user_id, token_id, issued_at, expires_at, token: token.clone() })
    }
}

/// Returns the same answer for malformed, forged and unknown tokens: details would help only an attacker.
fn invalid_token() -> Problem {
    Problem::unauthorized("the token is not valid; sign in again")
}

fn expired() -> Problem {
    Problem::unauthorized("the token has expired; sign in again")
}

fn decoding_key(key_id: &str, jwk: &Value) -> anyhow::Result<DecodingKey> {
    let parsed: Jwk =
        serde_json::from_value(jwk.clone()).with_context(|| format!("key {key_id} is not a JSON Web Key"))?;
    if jwk["crv"] != "Ed25519" {
        bail!("key {key_id} is not an Ed25519 key");
    }
    crypto::install();
    DecodingKey::from_jwk(&parsed).with_context(|| format!("key {key_id} is not usable"))
}

#[cfg(test)]
mod tests;
