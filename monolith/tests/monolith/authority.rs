//! A monolith that passes no request on works on a part only when the registry names it as the owner.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::{Method, StatusCode};
use flack_common::registry::{Registry, keys};
use flack_testing::{Etcd, eventually};
use futures::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Monolith, PASSWORD};

/// Each change of an owner has a new epoch.
async fn name_owner(registry: &Registry, part: &str, owner: &str) {
    static EPOCH: AtomicI64 = AtomicI64::new(1);
    let authority = json!({ "owner": owner, "epoch": EPOCH.fetch_add(1, Ordering::Relaxed) });
    registry.put(&keys::authority(part), authority.to_string(), None).await.expect("the registry");
}

async fn name_monolith(registry: &Registry) {
    for part in ["users", "tokens", "messages", "ui"] {
        name_owner(registry, part, "monolith").await;
    }
}

/// Expects 503 `not-the-owner` from every operation, at the same time: each is kept for a while.
async fn expect_refusal(flack: &Monolith, token: &str, operations: &[(Method, &str)]) {
    let refused = operations.iter().map(async |(method, path)| {
        let call = flack.request(method.clone(), path);
        let call = if *path == "/api/tokens" && *method == Method::POST
            || (*path == "/api/users/me" && *method == Method::GET)
        {
            call.basic("ada", PASSWORD)
        } else {
            call.bearer(token)
        };
        let body = match *path {
            "/api/users" => json!({ "nickname": "eve", "password": "x" }),
            path if path.starts_with("/api/users/") => json!({ "nickname": "eve" }),
            _ => json!({ "source": "x", "kind": "public", "name": "x", "message_id": 1 }),
        };
        let call = if matches!(*method, Method::POST | Method::PUT | Method::PATCH) { call.json(&body) } else { call };
        let answer = call.expect(StatusCode::SERVICE_UNAVAILABLE).await;
        let kind = answer.json()["type"].as_str().expect("a type").to_owned();
        assert!(kind.ends_with("#not-the-owner"), "{method} {path}: {kind}");
        assert_eq!(answer.header("retry-after"), "1");
    });
    join_all(refused).await;
}

const USERS: [(Method, &str); 7] = [
    (Method::POST, "/api/users"),
    (Method::GET, "/api/users"),
    (Method::GET, "/api/users/me"),
    (Method::PUT, "/api/users/me"),
    (Method::DELETE, "/api/users/me"),
    (Method::GET, "/api/users/1"),
    (Method::PUT, "/api/users/1"),
];
const TOKENS: [(Method, &str); 2] = [(Method::POST, "/api/tokens"), (Method::DELETE, "/api/tokens")];
const MESSAGES: [(Method, &str); 18] = [
    (Method::POST, "/api/messages"),
    (Method::GET, "/api/messages"),
    (Method::GET, "/api/messages/1"),
    (Method::PUT, "/api/messages/1"),
    (Method::GET, "/api/v2/messages"),
    (Method::GET, "/api/v2/messages/1"),
    (Method::PATCH, "/api/v2/messages/1"),
    (Method::DELETE, "/api/v2/messages/1"),
    (Method::GET, "/api/v2/channels"),
    (Method::POST, "/api/v2/channels"),
    (Method::GET, "/api/v2/channels/1"),
    (Method::PATCH, "/api/v2/channels/1"),
    (Method::GET, "/api/v2/channels/1/members"),
    (Method::PUT, "/api/v2/channels/1/members/1"),
    (Method::DELETE, "/api/v2/channels/1/members/1"),
    (Method::PUT, "/api/v2/channels/1/read"),
    (Method::GET, "/api/v2/channels/1/messages"),
    (Method::POST, "/api/v2/channels/1/messages"),
];

#[sqlx::test(migrations = false)]
async fn a_part_of_another_owner_is_neither_read_nor_written(pool: PgPool) {
    let etcd = Etcd::start().await;
    let registry = etcd.registry();
    name_monolith(&registry).await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    flack.post_message(&token, "hello").await;
    let journal =
        async || -> i64 { sqlx::query_scalar("select count(*) from journal").fetch_one(&pool).await.expect("a count") };

    for (part, operations) in [("users", &USERS[..]), ("tokens", &TOKENS), ("messages", &MESSAGES)] {
        let is = async |role: &str| {
            let held: String = sqlx::query_scalar("select role from ownership where part = $1")
                .bind(part)
                .fetch_one(&pool)
                .await
                .expect("a role");
            held == role
        };
        name_owner(&registry, part, part).await;
        eventually("the change of owner is known", async || is("replica").await).await;
        let before = journal().await;
        expect_refusal(&flack, &token, operations).await;
        assert_eq!(journal().await, before, "{part}: nothing was written");
        name_owner(&registry, part, "monolith").await;
        eventually("the monolith is the owner again", async || is("owner").await).await;
        flack.get("/api/users/1").expect(StatusCode::OK).await;
        flack.get("/api/messages").expect(StatusCode::OK).await;
        flack.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::OK).await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_part_without_an_owner_is_refused(pool: PgPool) {
    let etcd = Etcd::start().await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    let answer = flack.get("/api/users").expect(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("no owner of users")));
    let keys: i64 = sqlx::query_scalar("select count(*) from signing_keys").fetch_one(&pool).await.expect("a count");
    assert_eq!(keys, 0, "no signing key was created");
    assert!(etcd.registry().get_prefix(keys::JWKS).await.expect("the registry").is_empty());
}

#[sqlx::test(migrations = false)]
async fn calls_between_parts_of_the_process_are_checked_too(pool: PgPool) {
    let etcd = Etcd::start().await;
    let registry = etcd.registry();
    name_owner(&registry, "tokens", "monolith").await;
    name_owner(&registry, "users", "users").await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    // The monolith owns tokens, which calls users, which it does not own.
    let answer = flack.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.starts_with("users belongs to users")));
}

#[sqlx::test(migrations = false)]
async fn without_ownership_of_tokens_password_changes_are_stored_but_no_token_is_revoked(pool: PgPool) {
    let etcd = Etcd::start().await;
    let registry = etcd.registry();
    name_owner(&registry, "users", "monolith").await;
    name_owner(&registry, "tokens", "tokens").await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    let ada = flack.register("ada").await;
    let mut transaction = pool.begin().await.expect("a transaction");
    sqlx::query("set local flack.applier = 'tokens'").execute(&mut *transaction).await.expect("the setting");
    for statement in [
        "insert into tokens (id, user_id, issued_at, expires_at)
         values (gen_random_uuid(), $1, now() - interval '1 minute', now() + interval '1 hour')",
        "update users set password_changed_at = now() where id = $1",
    ] {
        sqlx::query(statement).bind(ada).execute(&mut *transaction).await.expect(statement);
    }
    transaction.commit().await.expect("the transaction commits");
    eventually("both events are consumed", async || {
        let done: i64 = sqlx::query_scalar("select count(*) from inbox where state = 'done'")
            .fetch_one(&pool)
            .await
            .expect("a count");
        done == 2
    })
    .await;
    let stored: (i64, i64) = sqlx::query_as(
        "select (select count(*) from password_changes), (select count(*) from tokens where revoked_at is null)",
    )
    .fetch_one(&pool)
    .await
    .expect("two counts");
    assert_eq!(stored, (1, 1));
}

#[sqlx::test(migrations = false)]
async fn the_database_refuses_writes_of_a_part_as_soon_as_the_process_has_read_the_record(pool: PgPool) {
    let etcd = Etcd::start().await;
    let registry = etcd.registry();
    name_monolith(&registry).await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    flack.register("ada").await;
    let touch = async || sqlx::query("update users set online = online").execute(&pool).await;
    touch().await.expect("the monolith is the owner");
    name_owner(&registry, "users", "users").await;
    eventually("the fence is closed", async || touch().await.is_err()).await;
    let error = touch().await.expect_err("the service is the owner");
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("FL001"));
    name_owner(&registry, "users", "monolith").await;
    eventually("the fence is open", async || touch().await.is_ok()).await;
}

#[sqlx::test(migrations = false)]
async fn the_owner_keeps_working_while_the_registry_is_unavailable(pool: PgPool) {
    let mut etcd = Etcd::start().await;
    name_monolith(&etcd.registry()).await;
    let flack = Monolith::beside(&pool, etcd.registry()).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    etcd.stop();
    flack.post_message(&token, "still here").await;
    flack.get("/api/messages").expect(StatusCode::OK).await;
}
