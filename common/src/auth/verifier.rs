//! The public side: checks tokens against the keys and revocations that this process holds in memory.

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

/// Ours have about 300; nothing longer is worth parsing.
const TOKEN_BYTES_MAX: usize = 2048;
/// A token may arrive here before the news of the key that signed it. This long we wait for the news.
const UNKNOWN_KEY_WAIT: Duration = Duration::from_millis(250);

/// Revocations that a listener may be behind; one that is further behind is told so, and looks at all its tokens.
const REVOCATIONS_KEPT_MAX: usize = 256;

/// Knows every public key and every revoked token.
#[derive(Debug)]
pub struct Verifier {
    known: RwLock<Known>,
    /// Counts changes of the keys, for those who wait for one.
    keys_changed: watch::Sender<u64>,
    revocations: broadcast::Sender<Uuid>,
}

#[derive(Debug, Default)]
struct Known {
    /// Told by this process itself: by the owner of tokens, ahead of the registry.
    own_keys: HashMap<String, DecodingKey>,
    own_revoked: HashMap<Uuid, i64>,
    /// What the registry says, replaced as a whole.
    followed_keys: HashMap<String, DecodingKey>,
    followed_revoked: HashSet<Uuid>,
}

impl Verifier {
    /// Knows what it is told by `add_key` and `revoke`: for the process that owns tokens, and for tests.
    pub fn standalone() -> Arc<Self> {
        Arc::new(Self {
            known: RwLock::default(),
            keys_changed: watch::Sender::new(0),
            revocations: broadcast::Sender::new(REVOCATIONS_KEPT_MAX),
        })
    }

    /// Tells each token that is revoked from now on, for those who hold on to one; subscribe to it.
    pub fn revocations(&self) -> broadcast::Sender<Uuid> {
        self.revocations.clone()
    }

    /// A public key, as `SigningKey::public_jwk` gives it.
    pub fn add_key(&self, key_id: &str, jwk: &Value) -> anyhow::Result<()> {
        let key = decoding_key(key_id, jwk)?;
        self.write(|known| known.own_keys.insert(key_id.to_owned(), key));
        self.keys_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// From now on this token is refused here. `expires_at` in unix seconds: after that it need not be remembered.
    pub fn revoke(&self, token_id: Uuid, expires_at: i64) {
        let now = Utc::now().timestamp();
        self.write(|known| {
            known.own_revoked.retain(|_, expires_at| *expires_at >= now);
            known.own_revoked.insert(token_id, expires_at);
        });
        // Nobody listens: nobody need be told.
        let _ = self.revocations.send(token_id);
    }

    /// The registry's keys, in place of those it had before. A malformed one is left out, and logged.
    pub(super) fn replace_keys(&self, entries: &BTreeMap<String, Value>) {
        let mut keys = HashMap::new();
        for (key_id, jwk) in entries {
            match decoding_key(key_id, jwk) {
                Ok(key) => {
                    keys.insert(key_id.clone(), key);
                }
                Err(problem) => warn!(key_id, error = %problem, "a key in the registry is not usable"),
            }
        }
        self.write(|known| known.followed_keys = keys);
        self.keys_changed.send_modify(|count| *count += 1);
    }

    /// The registry's revoked tokens, in place of those it had before; it forgets the expired ones itself.
    pub(super) fn replace_revoked<'a>(&self, token_ids: impl Iterator<Item = &'a str>) {
        let revoked: HashSet<Uuid> = token_ids.filter_map(|id| id.parse().ok()).collect();
        let before = self.write(|known| std::mem::replace(&mut known.followed_revoked, revoked.clone()));
        for token_id in revoked.difference(&before) {
            let _ = self.revocations.send(*token_id);
        }
    }

    /// The key, after a short wait when there is none of that name yet.
    async fn key(&self, key_id: &str) -> Option<DecodingKey> {
        let mut changes = self.keys_changed.subscribe();
        let wait = async {
            loop {
                if let Some(key) = self.read(|known| known.key(key_id)) {
                    return Some(key);
                }
                // Fails never: `self` holds the sender.
                changes.changed().await.ok()?;
            }
        };
        timeout(UNKNOWN_KEY_WAIT, wait).await.ok().flatten()
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn key(&self, key_id: &str) -> Option<DecodingKey> {
        self.own_keys.get(key_id).or_else(|| self.followed_keys.get(key_id)).cloned()
    }

    fn is_revoked(&self, token_id: &Uuid) -> bool {
        self.own_revoked.contains_key(token_id) || self.followed_revoked.contains(token_id)
    }
}

#[async_trait]
impl VerifyToken for Verifier {
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        let text = token.expose_secret();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(not_good());
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| not_good())?;
        // Before anything is looked up: the header is what the sender wrote there.
        let (ALGORITHM, Some(key_id)) = (header.alg, header.kid) else { return Err(not_good()) };
        let key = self.key(&key_id).await.ok_or_else(not_good)?;

        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(text, &key, &validation)
            .map_err(|problem| match problem.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => expired(),
                _ => not_good(),
            })?
            .claims;
        if self.read(|known| known.is_revoked(&claims.jti)) {
            return Err(Problem::unauthorized("the token has been revoked; sign in again"));
        }
        let user_id = claims.sub.parse().map_err(|_| not_good())?;
        Ok(TokenCaller { user_id, token_id: claims.jti, expires_at: claims.exp, token: token.clone() })
    }
}

/// One answer for all that is malformed, forged or signed by nobody we know: the details help only a forger.
fn not_good() -> Problem {
    Problem::unauthorized("the token is not valid; sign in again")
}

fn expired() -> Problem {
    Problem::unauthorized("the token has expired; sign in again")
}

fn decoding_key(key_id: &str, jwk: &Value) -> anyhow::Result<DecodingKey> {
    let parsed: Jwk =
        serde_json::from_value(jwk.clone()).with_context(|| format!("key {key_id} is no JSON Web Key"))?;
    if jwk["crv"] != "Ed25519" {
        bail!("key {key_id} is not an Ed25519 key");
    }
    crypto::install();
    DecodingKey::from_jwk(&parsed).with_context(|| format!("key {key_id} is not usable"))
}

#[cfg(test)]
mod tests;
