//! Issuing and revoking tokens.

use crate::support::{ADA, PASSWORD, Service, verify};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use flack_common::auth::Verifier;
use flack_tokens::cleanup;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn a_token_is_issued_for_the_user_whose_password_is_right(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let token = service.token().await;
    assert_eq!(service.verify(&token).await, Ok(ADA));

    let (user_id, issued_at, expires_at): (i64, DateTime<Utc>, DateTime<Utc>) =
        sqlx::query_as("select user_id, issued_at, expires_at from tokens").fetch_one(&pool).await.expect("one token");
    assert_eq!(user_id, ADA);
    assert_eq!((expires_at - issued_at).num_minutes(), 59, "an hour, less the fraction of a second");
}

#[sqlx::test(migrations = false)]
async fn wrong_credentials_get_no_token(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_refuses();
    let answer = service.post("/api/tokens").basic("ada", "wrong").expect(StatusCode::UNAUTHORIZED).await;
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "a browser would prompt");
    service.post("/api/tokens").expect(StatusCode::UNAUTHORIZED).await;
    service.post("/api/tokens").bearer("forged").expect(StatusCode::UNAUTHORIZED).await;
    service.post("/api/tokens").header("authorization", "Basic %%%").expect(StatusCode::UNAUTHORIZED).await;
    let tokens: i64 = sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 0);
}

#[sqlx::test(migrations = false)]
async fn while_users_is_unavailable_the_answer_is_503_with_retry_after(pool: PgPool) {
    let unreachable = Service::start_without_users(&pool).await;
    let answered_by_the_balancer = Service::start(&pool, None).await;
    answered_by_the_balancer.users_is_unavailable();
    for service in [unreachable, answered_by_the_balancer] {
        let call = service.post("/api/tokens").basic("ada", PASSWORD);
        let answer = call.expect(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("users")));
    }
}

#[sqlx::test(migrations = false)]
async fn a_revoked_token_is_refused_everywhere_also_for_its_revocation(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let (token, other) = (service.token().await, service.token().await);
    service.delete("/api/tokens").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(service.verify(&token).await, Err(401));
    assert_eq!(service.verify(&other).await, Ok(ADA), "another token of the same user stays valid");
    service.delete("/api/tokens").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
    service.delete("/api/tokens").expect(StatusCode::UNAUTHORIZED).await;
    service.delete("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn instances_that_start_at_the_same_time_sign_with_one_key(pool: PgPool) {
    let first = Service::start(&pool, None).await;
    let (second, third) = tokio::join!(Service::start(&pool, None), Service::start(&pool, None));
    for service in [&first, &second, &third] {
        service.users_accepts_ada();
    }
    let tokens = tokio::join!(first.token(), second.token(), third.token());
    let keys: i64 = sqlx::query_scalar("select count(*) from signing_keys").fetch_one(&pool).await.expect("a count");
    assert_eq!(keys, 1);
    for service in [&first, &second, &third] {
        for token in [&tokens.0, &tokens.1, &tokens.2] {
            assert_eq!(service.verify(token).await, Ok(ADA));
        }
    }
}

#[sqlx::test(migrations = false)]
async fn tokens_and_revocations_survive_a_restart(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let (good, revoked) = (service.token().await, service.token().await);
    service.delete("/api/tokens").bearer(&revoked).expect(StatusCode::NO_CONTENT).await;

    let restarted = Service::start(&pool, None).await;
    assert_eq!(verify(&Verifier::standalone(), &good).await, Err(401), "a verifier without keys refuses every token");
    restarted.publisher.repair().await.expect("a repair");
    assert_eq!(restarted.verify(&good).await, Ok(ADA));
    assert_eq!(restarted.verify(&revoked).await, Err(401));
}

#[sqlx::test(migrations = false)]
async fn only_expired_tokens_are_deleted(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let (_, good) = (service.token().await, service.token().await);
    sqlx::query(
        "update tokens set expires_at = now() - interval '1 second' where id = (select id from tokens limit 1)",
    )
    .execute(&pool)
    .await
    .expect("an update");
    assert_eq!(cleanup::clean(&service.store).await.expect("a cleanup"), 1);
    assert_eq!(cleanup::clean(&service.store).await.expect("a cleanup"), 0);
    let tokens: i64 = sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 1);
    assert_eq!(service.verify(&good).await, Ok(ADA));
}
