use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::json;

use super::*;
use crate::auth::SigningKey;

const HOUR: Duration = Duration::from_hours(1);

fn now() -> i64 {
    Utc::now().timestamp()
}

fn key_and_verifier() -> (SigningKey, Arc<Verifier>) {
    let key = SigningKey::generate().unwrap();
    let verifier = Verifier::standalone();
    verifier.add_key(key.key_id(), &key.public_jwk()).unwrap();
    (key, verifier)
}

async fn refusal(verifier: &Verifier, token: &str) -> Problem {
    verifier.verify_token(&token.into()).await.expect_err("the token was accepted")
}

/// A token with any header and claims, and an invalid signature.
fn forged(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode([7; 64]))
}

#[tokio::test]
async fn a_valid_token_identifies_its_user_and_itself() {
    let (key, verifier) = key_and_verifier();
    let (token, token_id, expires_at) = key.issue(17, now(), HOUR);
    let caller = verifier.verify_token(&token).await.unwrap();
    assert_eq!((caller.user_id, caller.token_id, caller.expires_at), (17, token_id, expires_at));
}

#[tokio::test]
async fn a_stored_and_loaded_key_signs_tokens_that_its_public_key_verifies() {
    let (key, verifier) = key_and_verifier();
    let loaded = SigningKey::from_pkcs8(key.key_id(), &key.to_pkcs8()).unwrap();
    assert_eq!(loaded.public_jwk(), key.public_jwk());
    verifier.verify_token(&loaded.issue(1, now(), HOUR).0).await.unwrap();
}

#[tokio::test]
async fn an_expired_token_is_refused_without_leeway() {
    let (key, verifier) = key_and_verifier();
    let (token, ..) = key.issue(17, now() - 3602, HOUR);
    let problem = refusal(&verifier, token.expose_secret()).await;
    assert_eq!(problem.status, 401);
    assert!(problem.detail.contains("expired"), "{problem}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_others_of_the_same_user_are_not() {
    let (key, verifier) = key_and_verifier();
    let (revoked, token_id, expires_at) = key.issue(17, now(), HOUR);
    let (other, ..) = key.issue(17, now(), HOUR);
    verifier.revoke(token_id, expires_at);
    assert_eq!(refusal(&verifier, revoked.expose_secret()).await.status, 401);
    verifier.verify_token(&other).await.unwrap();
}

#[tokio::test]
async fn a_token_that_this_process_revoked_stays_revoked_when_the_registry_loses_it() {
    let (key, verifier) = key_and_verifier();
    let (token, token_id, expires_at) = key.issue(17, now(), HOUR);
    verifier.revoke(token_id, expires_at);
    verifier.replace_revoked(std::iter::empty());
    assert_eq!(refusal(&verifier, token.expose_secret()).await.status, 401);
}

#[tokio::test]
async fn a_token_that_the_registry_revokes_is_refused() {
    let (key, verifier) = key_and_verifier();
    let (token, token_id, _) = key.issue(17, now(), HOUR);
    verifier.replace_revoked([token_id.to_string().as_str(), "not an id"].into_iter());
    assert_eq!(refusal(&verifier, token.expose_secret()).await.status, 401);
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let (key, verifier) = key_and_verifier();
    let (token, ..) = key.issue(17, now(), HOUR);
    let mut parts: Vec<String> = token.expose_secret().split('.').map(str::to_owned).collect();
    let claims = json!({ "sub": "1", "jti": Uuid::new_v4(), "iat": now(), "exp": now() + 3600 });
    parts[1] = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    assert_eq!(refusal(&verifier, &parts.join(".")).await.status, 401);
}

#[tokio::test]
async fn a_token_signed_by_another_key_with_a_known_key_id_is_refused() {
    let (key, verifier) = key_and_verifier();
    let other = SigningKey::generate().unwrap();
    let other = SigningKey::from_pkcs8(key.key_id(), &other.to_pkcs8()).unwrap();
    assert_eq!(refusal(&verifier, other.issue(17, now(), HOUR).0.expose_secret()).await.status, 401);
}

#[tokio::test]
async fn every_algorithm_but_ed25519_is_refused() {
    let (key, verifier) = key_and_verifier();
    let claims = json!({ "sub": "1", "jti": Uuid::new_v4(), "iat": now(), "exp": now() + 3600 });
    for algorithm in ["none", "HS256", "RS256", "ES256"] {
        let header = json!({ "typ": "JWT", "alg": algorithm, "kid": key.key_id() });
        assert_eq!(refusal(&verifier, &forged(&header, &claims)).await.status, 401, "{algorithm}");
    }
    // The well-known attack: an HMAC signature with the public key as its secret.
    let header = json!({ "typ": "JWT", "alg": "HS256", "kid": key.key_id() });
    let token = forged(&header, &claims);
    let signed = token.rsplit_once('.').unwrap().0;
    for secret in [key.public_jwk()["x"].as_str().unwrap().into(), public_key_bytes(&key)] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()));
        let token = format!("{signed}.{signature}");
        assert_eq!(refusal(&verifier, &token).await.status, 401);
    }
}

/// Signs any header with a key, as its owner could.
fn signed_with(key: &SigningKey, header: &Value) -> String {
    let claims = json!({ "sub": "1", "jti": Uuid::new_v4(), "iat": now(), "exp": now() + 3600 });
    let text = forged(header, &claims);
    let signed = text.rsplit_once('.').unwrap().0;
    let pair = ring::signature::Ed25519KeyPair::from_pkcs8(&key.to_pkcs8()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
}

#[tokio::test]
async fn a_key_that_the_token_itself_brings_along_is_ignored() {
    let (key, verifier) = key_and_verifier();
    let foreign = SigningKey::generate().unwrap();
    for key_id in [key.key_id(), foreign.key_id(), "", "../jwks/x", "x' or '1'='1"] {
        for brought in [
            json!({ "jwk": foreign.public_jwk() }),
            json!({ "jku": "http://127.0.0.1:1/jwks.json" }),
            json!({ "x5u": "http://127.0.0.1:1/chain.pem" }),
        ] {
            let mut header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": key_id });
            header.as_object_mut().unwrap().extend(brought.as_object().unwrap().clone());
            assert_eq!(refusal(&verifier, &signed_with(&foreign, &header)).await.status, 401, "{header}");
        }
    }
    let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": key.key_id() });
    verifier.verify_token(&signed_with(&key, &header).into()).await.expect("signed_with signs as SigningKey does");
}

#[tokio::test]
async fn a_token_whose_key_id_names_another_known_key_is_refused() {
    let (key, verifier) = key_and_verifier();
    let other = SigningKey::generate().unwrap();
    verifier.add_key(other.key_id(), &other.public_jwk()).unwrap();
    let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": other.key_id() });
    assert_eq!(refusal(&verifier, &signed_with(&key, &header)).await.status, 401);
}

#[tokio::test]
async fn a_token_of_a_removed_key_is_refused() {
    let (key, verifier) = key_and_verifier();
    let (token, ..) = key.issue(17, now(), HOUR);
    verifier.replace_keys(&BTreeMap::from([(key.key_id().to_owned(), key.public_jwk())]));
    verifier.remove_key(key.key_id());
    verifier.verify_token(&token).await.expect("the registry still has the key");
    verifier.replace_keys(&BTreeMap::new());
    assert_eq!(refusal(&verifier, token.expose_secret()).await.status, 401);
}

/// The verifier has no registry: an unknown key costs a wait, and never a read.
#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_delay_known_ones() {
    let (key, verifier) = key_and_verifier();
    let (token, ..) = key.issue(17, now(), HOUR);
    let unknown = SigningKey::generate().unwrap();
    let flood: Vec<_> = (0..2_000)
        .map(|number| {
            let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": format!("unknown-{number}") });
            let (verifier, token) = (Arc::clone(&verifier), signed_with(&unknown, &header));
            tokio::spawn(async move { refusal(&verifier, &token).await.status })
        })
        .collect();
    for _ in 0..100 {
        let started = std::time::Instant::now();
        verifier.verify_token(&token).await.expect("a known key");
        assert!(started.elapsed() < UNKNOWN_KEY_WAIT, "{:?}", started.elapsed());
        tokio::task::yield_now().await;
    }
    for refused in flood {
        assert_eq!(refused.await.unwrap(), 401);
    }
}

fn public_key_bytes(key: &SigningKey) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(key.public_jwk()["x"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn malformed_tokens_are_refused() {
    let (_, verifier) = key_and_verifier();
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    for text in ["", ".", "..", "a.b.c", "é.é.é", &long] {
        assert_eq!(refusal(&verifier, text).await.status, 401);
    }
}

#[tokio::test]
async fn a_token_without_key_id_is_refused() {
    let (_, verifier) = key_and_verifier();
    let claims = json!({ "sub": "1", "jti": Uuid::new_v4(), "iat": now(), "exp": now() + 3600 });
    assert_eq!(refusal(&verifier, &forged(&json!({ "alg": "EdDSA" }), &claims)).await.status, 401);
}

#[tokio::test]
async fn a_token_that_arrives_before_its_key_waits_for_it() {
    let key = SigningKey::generate().unwrap();
    let verifier = Verifier::standalone();
    let (token, ..) = key.issue(17, now(), HOUR);
    let mut waiting = Box::pin(verifier.verify_token(&token));
    assert!(futures::poll!(&mut waiting).is_pending());
    verifier.replace_keys(&BTreeMap::from([(key.key_id().to_owned(), key.public_jwk())]));
    assert_eq!(waiting.await.unwrap().user_id, 17);
}

#[tokio::test]
async fn a_token_of_an_unknown_key_is_refused_after_a_short_wait() {
    let verifier = Verifier::standalone();
    let (token, ..) = SigningKey::generate().unwrap().issue(17, now(), HOUR);
    let started = std::time::Instant::now();
    assert_eq!(refusal(&verifier, token.expose_secret()).await.status, 401);
    assert!(started.elapsed() >= UNKNOWN_KEY_WAIT);
}

#[test]
fn a_malformed_key_in_the_registry_is_skipped() {
    let key = SigningKey::generate().unwrap();
    let verifier = Verifier::standalone();
    let rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
    verifier.replace_keys(&BTreeMap::from([
        ("broken".to_owned(), json!({ "kty": "OKP" })),
        ("rsa".to_owned(), rsa.clone()),
        (key.key_id().to_owned(), key.public_jwk()),
    ]));
    assert!(verifier.read(|known| known.key(key.key_id()).is_some()));
    assert!(verifier.read(|known| known.key("rsa").is_none()));
    assert!(verifier.add_key("rsa", &rsa).is_err());
}

#[tokio::test]
async fn debug_output_contains_neither_key_nor_token() {
    let (key, verifier) = key_and_verifier();
    let (token, ..) = key.issue(17, now(), HOUR);
    let caller = verifier.verify_token(&token).await.unwrap();
    let shown = format!("{key:?} {caller:?} {token:?}");
    assert!(!shown.contains(token.expose_secret()));
    assert!(!shown.contains("encoding"));
}
