//! Keys and revocations in a real registry, also while it is unavailable.

use std::time::{Duration, Instant};

use crate::support::{ADA, PASSWORD, Service, verify};
use axum::http::StatusCode;
use flack_common::{auth::Verifier, authority::Ownership, process::Background, registry::keys};
use flack_testing::{Etcd, eventually};
use sqlx::PgPool;

/// The bound that the API document promises.
const REFUSED_EVERYWHERE_WITHIN: Duration = Duration::from_millis(250);

#[sqlx::test(migrations = false)]
async fn every_process_refuses_a_token_that_one_instance_revoked(pool: PgPool) {
    let etcd = Etcd::start().await;
    let service = Service::start(&pool, Some(etcd.registry())).await;
    service.users_accepts_ada();
    let token = service.token().await;
    let elsewhere = Verifier::from_registry(&etcd.registry(), &Background::default()).await.expect("a verifier");
    assert_eq!(verify(&elsewhere, &token).await, Ok(ADA), "the key is in the registry");

    service.delete("/api/tokens").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    let answered = Instant::now();
    eventually("refused elsewhere", async || verify(&elsewhere, &token).await == Err(401)).await;
    assert!(answered.elapsed() < REFUSED_EVERYWHERE_WITHIN, "{:?}", answered.elapsed());

    let entries = etcd.registry().get_prefix(keys::REVOKED).await.expect("the registry");
    assert_eq!(entries.len(), 1);
    let unpublished: i64 = sqlx::query_scalar(
        "select count(*) from tokens where revoked_at is not null and revocation_published_at is null",
    )
    .fetch_one(&pool)
    .await
    .expect("a count");
    assert_eq!(unpublished, 0);
}

#[sqlx::test(migrations = false)]
async fn a_revocation_is_published_when_the_registry_is_available_again(pool: PgPool) {
    let mut etcd = Etcd::start().await;
    let service = Service::start(&pool, Some(etcd.registry())).await;
    service.users_accepts_ada();
    let token = service.token().await;
    let background = Background::default();
    service.publisher.start(&Ownership::always(), &background);

    etcd.stop();
    let answer = service.delete("/api/tokens").bearer(&token).expect(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("marked as revoked")));
    assert_eq!(service.verify(&token).await, Err(401), "this process refuses it at once");

    etcd.start_again().await;
    let registry = etcd.registry();
    eventually("the registry has the revocation", async || {
        registry.get_prefix(keys::REVOKED).await.is_ok_and(|entries| entries.len() == 1)
    })
    .await;
    background.stopping().cancel();
}

#[sqlx::test(migrations = false)]
async fn entries_that_the_registry_lost_are_published_again(pool: PgPool) {
    let etcd = Etcd::start().await;
    let service = Service::start(&pool, Some(etcd.registry())).await;
    service.users_accepts_ada();
    let (good, revoked) = (service.token().await, service.token().await);
    service.delete("/api/tokens").bearer(&revoked).expect(StatusCode::NO_CONTENT).await;

    let registry = etcd.registry();
    registry.delete_prefix(keys::ROOT).await.expect("a registry that lost everything");
    service.publisher.repair().await.expect("a repair");

    let elsewhere = Verifier::from_registry(&registry, &Background::default()).await.expect("a verifier");
    assert_eq!(verify(&elsewhere, &good).await, Ok(ADA));
    assert_eq!(verify(&elsewhere, &revoked).await, Err(401));
}

#[sqlx::test(migrations = false)]
async fn no_token_is_issued_before_its_key_is_published(pool: PgPool) {
    let mut etcd = Etcd::start().await;
    let service = Service::start(&pool, Some(etcd.registry())).await;
    service.users_accepts_ada();
    etcd.stop();
    let call = service.post("/api/tokens").basic("ada", PASSWORD);
    call.expect(StatusCode::SERVICE_UNAVAILABLE).await;
}
