//! Presence: sign-in, signs of life, and the sweep of silent users.

use std::time::Duration;

use crate::support::{PASSWORD, Service, last_seen};
use axum::http::StatusCode;
use flack_users::{model::PRESENCE_SECONDS_MAX, presence, store::Store};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn signing_in_needs_the_right_password_and_is_a_sign_of_life(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("Ada").await;
    service.delete("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;

    let user = service.get("/api/users/me").basic("ada", PASSWORD).expect(StatusCode::OK).await.json();
    assert_eq!((user["id"].as_i64(), &user["online"]), (Some(ada), &json!(true)));

    for (nickname, password) in [("Ada", "wrong"), ("nobody", PASSWORD), ("a\u{0}b", "x"), ("", "")] {
        let me = service.get("/api/users/me").basic(nickname, password);
        let answer = me.expect(StatusCode::UNAUTHORIZED).await;
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "a browser would prompt");
    }
    service.get("/api/users/me").expect(StatusCode::UNAUTHORIZED).await;
    service.get("/api/users/me").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn presence_needs_a_valid_token_of_an_existing_user(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    service.put("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;

    let bad = ["forged".to_owned(), service.token(999_999), service.revoked_token(ada), service.expired_token(ada)];
    for token in bad {
        service.put("/api/users/me").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
        service.delete("/api/users/me").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
    }
    service.put("/api/users/me").expect(StatusCode::UNAUTHORIZED).await;
    service.put("/api/users/me").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
    let user = service.get(&format!("/api/users/{ada}")).expect(StatusCode::OK).await.json();
    assert_eq!(user["online"], true, "no refused request took Ada offline");
}

#[sqlx::test(migrations = false)]
async fn a_sign_of_life_is_written_at_most_every_five_seconds(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    let version = async || -> i64 {
        sqlx::query_scalar("select version from users where id = $1").bind(ada).fetch_one(&pool).await.expect("a user")
    };
    let ping = async || service.put("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;

    let at_first = version().await;
    ping().await;
    assert_eq!(version().await, at_first, "her last sign of life is recent");

    last_seen(&pool, ada, 6).await;
    let before = version().await;
    ping().await;
    ping().await;
    assert_eq!(version().await, before + 1);
}

#[sqlx::test(migrations = false)]
async fn a_sign_of_life_of_an_offline_user_is_written_at_once(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    service.delete("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    service.put("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    let user = service.get(&format!("/api/users/{ada}")).expect(StatusCode::OK).await.json();
    assert_eq!(user["online"], true);
}

#[sqlx::test(migrations = false)]
async fn a_user_without_a_sign_of_life_for_a_minute_is_offline(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (silent, _) = service.register("silent").await;
    let (lively, _) = service.register("lively").await;
    last_seen(&pool, silent, 61).await;
    last_seen(&pool, lively, 50).await;

    let store = Store::new(pool.clone());
    assert_eq!(presence::sweep(&store, PRESENCE_SECONDS_MAX).await.expect("a sweep"), 1);
    assert_eq!(presence::sweep(&store, PRESENCE_SECONDS_MAX).await.expect("a sweep"), 0);
    for (user, online) in [(silent, false), (lively, true)] {
        let user = service.get(&format!("/api/users/{user}")).expect(StatusCode::OK).await.json();
        assert_eq!(user["online"], online);
    }
}

#[sqlx::test(migrations = false)]
async fn concurrent_sweeps_mark_every_user_once(pool: PgPool) {
    let _service = Service::start(&pool).await;
    sqlx::query(
        "insert into users (nickname, password_hash, last_seen_at)
         select 'user' || number, 'none', now() - interval '1 hour' from generate_series(1, 1200) as number",
    )
    .execute(&pool)
    .await
    .expect("an insert");
    let store = Store::new(pool);
    let swept =
        tokio::join!(presence::sweep(&store, Duration::from_mins(1)), presence::sweep(&store, Duration::from_mins(1)));
    let swept = swept.0.expect("a sweep") + swept.1.expect("a sweep");
    let left = presence::sweep(&store, Duration::from_mins(1)).await.expect("a sweep");
    assert_eq!(swept + left, 1200, "each user is marked once");
}
