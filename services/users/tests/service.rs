//! The users service over a real PostgreSQL, asked as a client asks it.

mod support;

use flack_api::events::{Event, Operation, UsersEvent};
use flack_users::{presence, store::Store};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use support::Service;

#[sqlx::test(migrations = false)]
async fn registering_answers_the_user_and_where_it_is(pool: PgPool) {
    let service = Service::start(pool).await;
    let answer = service.post("/api/users", &json!({"nickname": "Ada", "password": "secret"})).await;
    let user = answer.expect(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/api/users/{}", user["id"]));
    assert_eq!(user["nickname"], "Ada");
    assert_eq!(user["online"], true);
    assert_eq!(user["_links"]["self"], format!("/api/users/{}", user["id"]));
    assert!(user["created_at"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000));
    assert!(!answer.text().contains("secret") && !answer.text().contains("argon2"));
}

#[sqlx::test(migrations = false)]
async fn a_nickname_is_taken_whatever_its_case(pool: PgPool) {
    let service = Service::start(pool).await;
    service.register("Ada").await;
    let answer = service.post("/api/users", &json!({"nickname": "aDA", "password": "other"})).await;
    let problem = answer.expect(StatusCode::CONFLICT);
    assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("#nickname-taken")));
    assert_eq!(problem["error"], problem["detail"]);
}

#[sqlx::test(migrations = false)]
async fn an_incomplete_or_malformed_registration_is_refused_and_stores_nothing(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    for body in [
        json!({}),
        json!({"nickname": "ada"}),
        json!({"password": "secret"}),
        json!({"nickname": "", "password": "secret"}),
        json!({"nickname": "a b", "password": "secret"}),
        json!({"nickname": "a:b", "password": "secret"}),
        json!({"nickname": "a\u{0}b", "password": "secret"}),
        json!({"nickname": "x".repeat(33), "password": "secret"}),
        json!({"nickname": "ada", "password": ""}),
        json!({"nickname": 7, "password": "secret"}),
        json!([]),
    ] {
        service.post("/api/users", &body).await.expect(StatusCode::BAD_REQUEST);
    }
    let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&pool).await.unwrap();
    assert_eq!(users, 0);
}

#[sqlx::test(migrations = false)]
async fn users_are_listed_oldest_change_first_and_by_presence(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let (ada, bob) = (service.register("ada").await, service.register("bob").await);
    service.delete("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);

    let ids = async |path: &str| -> Vec<i64> {
        let list = service.get(path).send().await.expect(StatusCode::OK);
        list["users"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids("/api/users").await, [bob, ada]);
    assert_eq!(ids("/api/users?online=1").await, [bob]);
    assert_eq!(ids("/api/users?online=0").await, [ada]);

    sqlx::query("update users set updated_at = to_timestamp(1000) where id = $1")
        .bind(bob)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(ids("/api/users?updated_since=999").await, [bob, ada]);
    assert_eq!(ids("/api/users?updated_since=1000").await, [ada]);
    for bad in ["online=2", "online=yes", "updated_since=-1", "updated_since=soon", "updated_since=99999999999999999999"] {
        service.get(&format!("/api/users?{bad}")).send().await.expect(StatusCode::BAD_REQUEST);
    }
}

#[sqlx::test(migrations = false)]
async fn one_user_is_found_by_id_and_nobody_by_an_id_that_is_none(pool: PgPool) {
    let service = Service::start(pool).await;
    let ada = service.register("ada").await;
    let user = service.get(&format!("/api/users/{ada}")).send().await.expect(StatusCode::OK);
    assert_eq!(user["nickname"], "ada");
    service.get("/api/users/999999").send().await.expect(StatusCode::NOT_FOUND);
    for bad in ["0", "-1", "ada", "99999999999999999999"] {
        service.get(&format!("/api/users/{bad}")).send().await.expect(StatusCode::BAD_REQUEST);
    }
}

#[sqlx::test(migrations = false)]
async fn signing_in_needs_the_right_password_and_counts_as_a_sign_of_life(pool: PgPool) {
    let service = Service::start(pool).await;
    let ada = service.register("Ada").await;
    service.delete("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);

    let user = service.get("/api/users/me").basic("ada", support::PASSWORD).send().await.expect(StatusCode::OK);
    assert_eq!((user["id"].as_i64(), &user["online"]), (Some(ada), &json!(true)));

    for (nickname, password) in [("Ada", "wrong"), ("nobody", support::PASSWORD), ("a\u{0}b", "x"), ("", "")] {
        let answer = service.get("/api/users/me").basic(nickname, password).send().await;
        answer.expect(StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "a browser would prompt");
    }
    service.get("/api/users/me").send().await.expect(StatusCode::UNAUTHORIZED);
    service.get("/api/users/me").token(ada).send().await.expect(StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrations = false)]
async fn presence_needs_a_good_token_of_somebody_who_exists(pool: PgPool) {
    let service = Service::start(pool).await;
    let ada = service.register("ada").await;
    service.put("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);
    service.put("/api/users/me").send().await.expect(StatusCode::UNAUTHORIZED);
    service.put("/api/users/me").bearer("forged").send().await.expect(StatusCode::UNAUTHORIZED);
    service.put("/api/users/me").token(999_999).send().await.expect(StatusCode::UNAUTHORIZED);
    service.delete("/api/users/me").token(999_999).send().await.expect(StatusCode::UNAUTHORIZED);

    let revoked = service.revoked_token(ada);
    service.put("/api/users/me").bearer(&revoked).send().await.expect(StatusCode::UNAUTHORIZED);
    let expired = service.expired_token(ada);
    service.put("/api/users/me").bearer(&expired).send().await.expect(StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrations = false)]
async fn a_sign_of_life_is_written_at_most_every_five_seconds(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let ada = service.register("ada").await;
    let version = async || -> i64 {
        sqlx::query_scalar("select version from users where id = $1").bind(ada).fetch_one(&pool).await.unwrap()
    };
    let at_first = version().await;
    service.put("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(version().await, at_first, "she was seen a moment ago");

    support::last_seen(&pool, ada, 6).await;
    let before = version().await;
    service.put("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);
    service.put("/api/users/me").token(ada).send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(version().await, before + 1);
}

#[sqlx::test(migrations = false)]
async fn whoever_gives_no_sign_for_a_minute_is_offline(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let mut silent = Vec::new();
    for number in 0..3 {
        let user = service.register(&format!("silent{number}")).await;
        support::last_seen(&pool, user, 61).await;
        silent.push(user);
    }
    let lively = service.register("lively").await;
    support::last_seen(&pool, lively, 59).await;

    let store = Store::new(pool.clone());
    assert_eq!(presence::sweep(&store, flack_users::model::PRESENCE_SECONDS_MAX).await.unwrap(), 3);
    assert_eq!(presence::sweep(&store, flack_users::model::PRESENCE_SECONDS_MAX).await.unwrap(), 0);
    for user in silent {
        let user = service.get(&format!("/api/users/{user}")).send().await.expect(StatusCode::OK);
        assert_eq!(user["online"], false);
    }
    let user = service.get(&format!("/api/users/{lively}")).send().await.expect(StatusCode::OK);
    assert_eq!(user["online"], true);
}

#[sqlx::test(migrations = false)]
async fn a_sweep_of_many_goes_in_batches_and_finds_all(pool: PgPool) {
    let _service = Service::start(pool.clone()).await;
    sqlx::query(
        "insert into users (nickname, password_hash, last_seen_at)
         select 'user' || number, 'none', now() - interval '1 hour' from generate_series(1, 1200) as number",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(presence::sweep(&Store::new(pool), Duration::from_secs(60)).await.unwrap(), 1200);
}

#[sqlx::test(migrations = false)]
async fn users_change_themselves_and_nobody_else(pool: PgPool) {
    let service = Service::start(pool).await;
    let (ada, bob) = (service.register("ada").await, service.register("bob").await);
    let path = format!("/api/users/{ada}");

    service.put(&path).token(ada).json(&json!({"nickname": "Ada"})).send().await.expect(StatusCode::NO_CONTENT);
    let user = service.get(&path).send().await.expect(StatusCode::OK);
    assert_eq!(user["nickname"], "Ada", "one's own name in another case is free");

    service.put(&path).token(bob).json(&json!({"nickname": "x"})).send().await.expect(StatusCode::FORBIDDEN);
    service.put(&path).json(&json!({"nickname": "x"})).send().await.expect(StatusCode::UNAUTHORIZED);
    service.put(&path).token(ada).json(&json!({"nickname": "BOB"})).send().await.expect(StatusCode::CONFLICT);
    service.put(&path).token(ada).json(&json!({"nickname": "a b"})).send().await.expect(StatusCode::BAD_REQUEST);
    service.put(&path).token(ada).json(&json!({"password": ""})).send().await.expect(StatusCode::BAD_REQUEST);
    service.put(&path).token(ada).json(&json!({})).send().await.expect(StatusCode::NO_CONTENT);
    service
        .put("/api/users/999999")
        .token(ada)
        .json(&json!({"nickname": "x"}))
        .send()
        .await
        .expect(StatusCode::NOT_FOUND);
}

#[sqlx::test(migrations = false)]
async fn a_new_password_replaces_the_old_one_and_tells_when(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let ada = service.register("ada").await;
    let changed_at = async || -> chrono::DateTime<chrono::Utc> {
        sqlx::query_scalar("select password_changed_at from users where id = $1")
            .bind(ada)
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let at_first = changed_at().await;
    let path = format!("/api/users/{ada}");
    service.put(&path).token(ada).json(&json!({"nickname": "ada2"})).send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(changed_at().await, at_first, "a new nickname is no new password");

    service.put(&path).token(ada).json(&json!({"password": "new"})).send().await.expect(StatusCode::NO_CONTENT);
    assert!(changed_at().await > at_first);
    service.get("/api/users/me").basic("ada2", "new").send().await.expect(StatusCode::OK);
    service.get("/api/users/me").basic("ada2", support::PASSWORD).send().await.expect(StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrations = false)]
async fn every_change_is_told_with_its_request_and_without_the_password(pool: PgPool) {
    let service = Service::start(pool.clone()).await;
    let answer = service
        .request(http::Method::POST, "/api/users")
        .correlation_id("registration-1")
        .json(&json!({"nickname": "ada", "password": "secret"}))
        .send()
        .await;
    let ada = answer.expect(StatusCode::CREATED)["id"].as_i64().unwrap();

    let published = support::published(&pool, 1).await;
    let text = published[0].to_string();
    assert!(!text.contains("argon2") && !text.contains("password_hash"), "{text}");
    let event: Event<UsersEvent> = serde_json::from_value(published[0].clone()).unwrap();
    assert_eq!(event.operation, Operation::Insert);
    assert_eq!(event.correlation_id.as_deref(), Some("registration-1"));
    assert_eq!(event.version, 1);
    let UsersEvent::UserChanged(user) = event.union;
    assert_eq!((user.id, user.nickname.as_str(), user.online), (ada, "ada", true));

    let journaled: Vec<Value> =
        sqlx::query_scalar("select row_data from journal").fetch_all(&pool).await.unwrap();
    assert!(journaled.iter().all(|row| row.get("password_hash").is_none()));
}
