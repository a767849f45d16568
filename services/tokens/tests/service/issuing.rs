//! Issuing and revoking, over a real PostgreSQL, with users played by its mock server.

use crate::support::{ADA, PASSWORD, Service, shows};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use flack_common::auth::Verifier;
use flack_tokens::cleanup;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn a_token_speaks_for_the_user_whose_password_was_right(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let token = service.token().await;
    assert_eq!(service.shows(&token).await, Ok(ADA));

    let (user_id, issued_at, expires_at): (i64, DateTime<Utc>, DateTime<Utc>) =
        sqlx::query_as("select user_id, issued_at, expires_at from tokens")
            .fetch_one(&pool)
            .await
            .expect("one token on record");
    assert_eq!(user_id, ADA);
    assert_eq!((expires_at - issued_at).num_minutes(), 59, "an hour, less the fraction of a second");
}

#[sqlx::test(migrations = false)]
async fn who_is_unknown_to_users_gets_no_token(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_refuse();
    let answer = service.post("/api/tokens").basic("ada", "wrong").expect(StatusCode::UNAUTHORIZED).await;
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "a browser would prompt");
    service.post("/api/tokens").expect(StatusCode::UNAUTHORIZED).await;
    service.post("/api/tokens").bearer("forged").expect(StatusCode::UNAUTHORIZED).await;
    service.post("/api/tokens").header("authorization", "Basic %%%").expect(StatusCode::UNAUTHORIZED).await;
    let tokens: i64 =
        sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 0);
}

#[sqlx::test(migrations = false)]
async fn without_users_there_is_no_token_but_a_time_to_try_again(pool: PgPool) {
    let nobody_listens = Service::start_without_users(&pool).await;
    let balancer_says_so = Service::start(&pool, None).await;
    balancer_says_so.users_are_away();
    for service in [nobody_listens, balancer_says_so] {
        let call = service.post("/api/tokens").basic("ada", PASSWORD);
        let answer = call.expect(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("users")));
    }
}

#[sqlx::test(migrations = false)]
async fn a_revoked_token_is_good_for_nothing_not_even_to_be_revoked(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let (token, other) = (service.token().await, service.token().await);
    service.delete("/api/tokens").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(service.shows(&token).await, Err(401));
    assert_eq!(service.shows(&other).await, Ok(ADA), "another token of the same user is another matter");
    service.delete("/api/tokens").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
    service.delete("/api/tokens").expect(StatusCode::UNAUTHORIZED).await;
    service.delete("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn all_instances_sign_with_one_key_also_when_they_start_at_once(pool: PgPool) {
    let first = Service::start(&pool, None).await;
    let (second, third) = tokio::join!(Service::start(&pool, None), Service::start(&pool, None));
    for service in [&first, &second, &third] {
        service.users_know_ada();
    }
    let tokens = tokio::join!(first.token(), second.token(), third.token());
    let keys: i64 =
        sqlx::query_scalar("select count(*) from signing_keys").fetch_one(&pool).await.expect("a count");
    assert_eq!(keys, 1);
    for service in [&first, &second, &third] {
        for token in [&tokens.0, &tokens.1, &tokens.2] {
            assert_eq!(service.shows(token).await, Ok(ADA));
        }
    }
}

#[sqlx::test(migrations = false)]
async fn what_was_issued_and_revoked_before_a_restart_stays_so(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let (good, revoked) = (service.token().await, service.token().await);
    service.delete("/api/tokens").bearer(&revoked).expect(StatusCode::NO_CONTENT).await;

    let restarted = Service::start(&pool, None).await;
    assert_eq!(
        shows(&Verifier::standalone(), &good).await,
        Err(401),
        "a verifier that knows no key trusts nobody"
    );
    restarted.publisher.repair().await.expect("a repair");
    assert_eq!(restarted.shows(&good).await, Ok(ADA));
    assert_eq!(restarted.shows(&revoked).await, Err(401));
}

#[sqlx::test(migrations = false)]
async fn expired_tokens_are_deleted_and_others_are_not(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let (_, good) = (service.token().await, service.token().await);
    sqlx::query("update tokens set expires_at = now() - interval '1 second' where id = (select id from tokens limit 1)")
        .execute(&pool)
        .await
        .expect("an update");
    assert_eq!(cleanup::clean(&service.store).await.expect("a cleanup"), 1);
    assert_eq!(cleanup::clean(&service.store).await.expect("a cleanup"), 0);
    let tokens: i64 =
        sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 1);
    assert_eq!(service.shows(&good).await, Ok(ADA));
}
