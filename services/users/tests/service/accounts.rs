//! Registration, lists, and changes of users.

use crate::support::{PASSWORD, Service};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn registration_returns_the_user_and_its_location(pool: PgPool) {
    let service = Service::start(&pool).await;
    let body = json!({ "nickname": "Ada", "password": "secret" });
    let answer = service.post("/api/users").json(&body).expect(StatusCode::CREATED).await;
    let user = answer.json();
    assert_eq!(answer.header("location"), format!("/api/users/{}", user["id"]));
    assert_eq!(user["nickname"], "Ada");
    assert_eq!(user["online"], true);
    assert_eq!(user["_links"]["self"], format!("/api/users/{}", user["id"]));
    assert!(user["created_at"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000));
    assert!(!answer.text.contains("secret") && !answer.text.contains("argon2"));
}

#[sqlx::test(migrations = false)]
async fn a_nickname_is_taken_in_every_case(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("Ada").await;
    let body = json!({ "nickname": "aDA", "password": "other" });
    let problem = service.post("/api/users").json(&body).expect(StatusCode::CONFLICT).await.json();
    assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("#nickname-taken")));
    assert_eq!(problem["error"], problem["detail"]);
}

#[sqlx::test(migrations = false)]
async fn one_of_two_concurrent_registrations_of_a_nickname_succeeds(pool: PgPool) {
    let service = Service::start(&pool).await;
    let body = json!({ "nickname": "ada", "password": "secret" });
    let register = async || service.post("/api/users").json(&body).send().await.status;
    let mut statuses: [StatusCode; 2] = tokio::join!(register(), register()).into();
    statuses.sort();
    assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT]);
}

#[sqlx::test(migrations = false)]
async fn an_incomplete_or_malformed_registration_stores_nothing(pool: PgPool) {
    let service = Service::start(&pool).await;
    for body in [
        json!({}),
        json!({ "nickname": "ada" }),
        json!({ "password": "secret" }),
        json!({ "nickname": "", "password": "secret" }),
        json!({ "nickname": "a b", "password": "secret" }),
        json!({ "nickname": "a:b", "password": "secret" }),
        json!({ "nickname": "a\u{0}b", "password": "secret" }),
        json!({ "nickname": "x".repeat(33), "password": "secret" }),
        json!({ "nickname": "ada", "password": "" }),
        json!({ "nickname": "ada", "password": "x".repeat(129) }),
        json!({ "nickname": 7, "password": "secret" }),
        json!([]),
    ] {
        service.post("/api/users").json(&body).expect(StatusCode::BAD_REQUEST).await;
    }
    let plain = service.post("/api/users").header("content-type", "text/plain");
    plain.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&pool).await.expect("a count");
    assert_eq!(users, 0);
}

#[sqlx::test(migrations = false)]
async fn users_are_listed_oldest_change_first_and_by_presence(pool: PgPool) {
    let service = Service::start(&pool).await;
    let ((ada, token), (bob, _)) = (service.register("ada").await, service.register("bob").await);
    service.delete("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;

    let ids = async |path: &str| -> Vec<i64> {
        let list = service.get(path).expect(StatusCode::OK).await.json();
        let users = list["users"].as_array().expect("a list").iter();
        users.map(|user| user["id"].as_i64().expect("an id")).collect()
    };
    assert_eq!(ids("/api/users").await, [bob, ada]);
    assert_eq!(ids("/api/users?online=1").await, [bob]);
    assert_eq!(ids("/api/users?online=0").await, [ada]);

    sqlx::query("update users set updated_at = to_timestamp(1000) where id = $1")
        .bind(bob)
        .execute(&pool)
        .await
        .expect("an update");
    assert_eq!(ids("/api/users?updated_since=999").await, [bob, ada]);
    assert_eq!(ids("/api/users?updated_since=1000").await, [ada]);
    for bad in ["online=2", "online=yes", "updated_since=-1", "updated_since=soon", "updated_since=9999999999999"] {
        service.get(&format!("/api/users?{bad}")).expect(StatusCode::BAD_REQUEST).await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_list_has_at_most_a_thousand_users(pool: PgPool) {
    let service = Service::start(&pool).await;
    sqlx::query(
        "insert into users (nickname, password_hash)
         select 'user' || number, 'none' from generate_series(1, 1001) as number",
    )
    .execute(&pool)
    .await
    .expect("an insert");
    let list = service.get("/api/users").expect(StatusCode::OK).await.json();
    assert_eq!(list["users"].as_array().map(Vec::len), Some(1000));
}

#[sqlx::test(migrations = false)]
async fn a_user_is_found_by_id_and_an_invalid_id_is_refused(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, _) = service.register("ada").await;
    let user = service.get(&format!("/api/users/{ada}")).expect(StatusCode::OK).await.json();
    assert_eq!(user["nickname"], "ada");
    service.get("/api/users/999999").expect(StatusCode::NOT_FOUND).await;
    for bad in ["0", "-1", "ada", "99999999999999999999"] {
        service.get(&format!("/api/users/{bad}")).expect(StatusCode::BAD_REQUEST).await;
    }
    // An invalid token is refused where a token is optional.
    service.get(&format!("/api/users/{ada}")).bearer("forged").expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn users_can_change_only_themselves(pool: PgPool) {
    let service = Service::start(&pool).await;
    let ((ada, token), (_, of_bob)) = (service.register("ada").await, service.register("bob").await);
    let path = format!("/api/users/{ada}");
    let change = |token: &str, body| service.put(&path).bearer(token).json(&body);

    change(&token, json!({ "nickname": "Ada" })).expect(StatusCode::NO_CONTENT).await;
    let user = service.get(&path).expect(StatusCode::OK).await.json();
    assert_eq!(user["nickname"], "Ada", "a user's own nickname in another case is free");

    change(&of_bob, json!({ "nickname": "x" })).expect(StatusCode::FORBIDDEN).await;
    change(&token, json!({ "nickname": "BOB" })).expect(StatusCode::CONFLICT).await;
    change(&token, json!({ "nickname": "a b" })).expect(StatusCode::BAD_REQUEST).await;
    change(&token, json!({ "password": "" })).expect(StatusCode::BAD_REQUEST).await;
    change(&token, json!({})).expect(StatusCode::NO_CONTENT).await;
    service.put(&path).json(&json!({ "nickname": "x" })).expect(StatusCode::UNAUTHORIZED).await;
    let unknown = service.put("/api/users/999999").bearer(&token).json(&json!({ "nickname": "x" }));
    unknown.expect(StatusCode::NOT_FOUND).await;
    assert_eq!(service.get(&path).expect(StatusCode::OK).await.json()["nickname"], "Ada");
}

#[sqlx::test(migrations = false)]
async fn a_new_password_replaces_the_old_one_and_sets_its_time(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    let changed_at = async || -> DateTime<Utc> {
        sqlx::query_scalar("select password_changed_at from users where id = $1")
            .bind(ada)
            .fetch_one(&pool)
            .await
            .expect("a user")
    };
    let at_first = changed_at().await;
    let path = format!("/api/users/{ada}");
    let change = |body| service.put(&path).bearer(&token).json(&body);
    change(json!({ "nickname": "ada2" })).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(changed_at().await, at_first, "a new nickname does not change the password");

    change(json!({ "password": "new" })).expect(StatusCode::NO_CONTENT).await;
    assert!(changed_at().await > at_first);
    service.get("/api/users/me").basic("ada2", "new").expect(StatusCode::OK).await;
    service.get("/api/users/me").basic("ada2", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
}
