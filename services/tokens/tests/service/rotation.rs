//! Rotation of the signing key while tokens are issued and verified.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{ADA, Service, verify};
use flack_common::{auth::Verifier, process::Background, registry::keys};
use flack_testing::{Etcd, eventually};
use sqlx::PgPool;

/// Retires the key that signs, as an operator does.
async fn retire(pool: &PgPool, at: &str) {
    sqlx::query("update signing_keys set retired_at = $1::timestamptz where retired_at is null")
        .bind(at)
        .execute(pool)
        .await
        .expect("an update");
}

async fn registered_keys(etcd: &Etcd) -> usize {
    etcd.registry().get_prefix(keys::JWKS).await.expect("the registry").len()
}

async fn stored_tokens(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from tokens").fetch_one(pool).await.expect("a count")
}

#[sqlx::test(migrations = false)]
async fn no_honest_token_is_refused_while_keys_are_rotated(pool: PgPool) {
    const ROTATIONS: usize = 5;
    let etcd = Etcd::start().await;
    let first = Service::start(&pool, Some(etcd.registry())).await;
    let second = Service::start(&pool, Some(etcd.registry())).await;
    first.users_accepts_ada();
    second.users_accepts_ada();
    let elsewhere = Verifier::from_registry(&etcd.registry(), &Background::default()).await.expect("a verifier");

    let done = AtomicBool::new(false);
    let issue = async |service: &Service| {
        let mut tokens = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let token = service.token().await;
            assert_eq!(verify(&elsewhere, &token).await, Ok(ADA), "a new token");
            tokens.push(token);
        }
        tokens
    };
    let rotate = async {
        for rotation in 1..=ROTATIONS {
            retire(&pool, "now").await;
            eventually("the new key is published", async || registered_keys(&etcd).await > rotation).await;
            // A key is published before it signs, so that alone would retire keys faster than they sign.
            let before = stored_tokens(&pool).await;
            eventually("the new key signs", async || stored_tokens(&pool).await > before).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    // The keys are created by the first tokens.
    let oldest = first.token().await;
    let (tokens, more, ()) = tokio::join!(issue(&first), issue(&second), rotate);
    for token in tokens.iter().chain(&more) {
        assert_eq!(verify(&elsewhere, token).await, Ok(ADA), "tokens of retired keys stay valid");
    }
    assert_eq!(registered_keys(&etcd).await, ROTATIONS + 1);

    // A registry that has lost its data gets the retired keys again, too.
    for key in etcd.registry().get_prefix(keys::JWKS).await.expect("the registry").into_keys() {
        etcd.registry().delete(&key).await.expect("the registry");
    }
    first.publisher.repair().await.expect("a repair");
    let restored = Verifier::from_registry(&etcd.registry(), &Background::default()).await.expect("a verifier");
    assert_eq!(verify(&restored, &oldest).await, Ok(ADA), "a token of a retired key");
}

#[sqlx::test(migrations = false)]
async fn a_retired_key_signs_no_token_of_any_instance(pool: PgPool) {
    let (first, second) = (Service::start(&pool, None).await, Service::start(&pool, None).await);
    for service in [&first, &second] {
        service.users_accepts_ada();
        service.token().await;
    }
    retire(&pool, "now").await;
    let (old, new) = (first.token().await, second.token().await);
    let key_id = |token: &str| token.split('.').next().expect("a header").to_owned();
    assert_eq!(key_id(&old), key_id(&new), "both instances sign with the new key");
    let keys: i64 = sqlx::query_scalar("select count(*) from signing_keys").fetch_one(&pool).await.expect("a count");
    assert_eq!(keys, 2);
}

#[sqlx::test(migrations = false)]
async fn the_tokens_of_a_stolen_key_are_refused_everywhere(pool: PgPool) {
    let etcd = Etcd::start().await;
    let service = Service::start(&pool, Some(etcd.registry())).await;
    service.users_accepts_ada();
    let elsewhere = Verifier::from_registry(&etcd.registry(), &Background::default()).await.expect("a verifier");
    let stolen = service.token().await;
    assert_eq!(verify(&elsewhere, &stolen).await, Ok(ADA));

    retire(&pool, "epoch").await;
    service.publisher.repair().await.expect("a repair");
    eventually("refused elsewhere", async || verify(&elsewhere, &stolen).await == Err(401)).await;
    assert_eq!(service.verify(&stolen).await, Err(401));
    let token = service.token().await;
    assert_eq!(verify(&elsewhere, &token).await, Ok(ADA));
    assert_eq!(registered_keys(&etcd).await, 1);
}
