//! Signs tokens. Only the owner of tokens has a private key.

use std::{fmt, time::Duration};

use anyhow::{Context as _, anyhow};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    claims::{ALGORITHM, Claims},
    crypto,
};

/// An Ed25519 key pair and its id.
pub struct SigningKey {
    key_id: String,
    /// PKCS#8.
    pkcs8: SecretBox<[u8]>,
    public: Vec<u8>,
    encoding: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Generates a key with a new id.
    pub fn generate() -> anyhow::Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| anyhow!("the operating system gave no random numbers for a signing key"))?;
        Self::from_pkcs8(&Uuid::new_v4().to_string(), pkcs8.as_ref())
    }

    /// Loads a key that `to_pkcs8` returned.
    pub fn from_pkcs8(key_id: &str, der: &[u8]) -> anyhow::Result<Self> {
        crypto::install();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map_err(|reason| anyhow!("{reason}"))
            .with_context(|| format!("signing key {key_id} is not an Ed25519 key in PKCS#8"))?;
        Ok(Self {
            key_id: key_id.to_owned(),
            pkcs8: SecretBox::new(der.into()),
            public: pair.public_key().as_ref().to_vec(),
            encoding: EncodingKey::from_ed_der(der),
        })
    }

    /// Returns the private key, which only the owner's database may store.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.pkcs8.expose_secret().to_vec()
    }

    /// Returns the key's id: `kid` of every token that it signs.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the public key as a JSON Web Key, for the registry and for [`super::Verifier::add_key`].
    pub fn public_jwk(&self) -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.key_id, "x": BASE64_URL_SAFE_NO_PAD.encode(&self.public),
        })
    }

    /// Issues a token for a user. Returns the token, its id and its expiry (unix seconds, like `issued_at`).
    pub fn issue(&self, user_id: i64, issued_at: i64, lifetime: Duration) -> (SecretString, Uuid, i64) {
        let token_id = Uuid::new_v4();
        let lifetime_seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires_at = issued_at.saturating_add(lifetime_seconds);
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(ALGORITHM) };
        let claims = Claims { sub: user_id.to_string(), jti: token_id, iat: issued_at, exp: expires_at };
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding)
            .expect("the key is valid, and claims are plain JSON");
        (token.into(), token_id, expires_at)
    }
}
