//! Changes of passwords, and the rules for new ones.

use std::time::Duration;

use crate::support::{HOME, PASSWORD, Service};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn a_token_that_was_found_later_does_not_change_the_password(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, fresh) = service.register("ada").await;
    let path = format!("/api/users/{ada}");
    let change = |token: &str, body: Value| service.put(&path).bearer(token).json(&body);
    let old = service.token_of_age(ada, Duration::from_secs(15 * 60 + 5));

    // A client of version 1 signs in again, because of the 401.
    let problem = change(&old, json!({ "password": "mine" })).expect(StatusCode::UNAUTHORIZED).await.json();
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("current_password")), "{problem}");
    let wrong = json!({ "password": "mine", "current_password": "wrong" });
    for token in [&old, &fresh] {
        change(token, wrong.clone()).expect(StatusCode::FORBIDDEN).await;
    }
    assert_eq!(service.sign_in(HOME, "ada", PASSWORD).await.status, StatusCode::OK);

    change(&old, json!({ "nickname": "Ada" })).expect(StatusCode::NO_CONTENT).await;
    change(&old, json!({ "password": "other", "current_password": PASSWORD })).expect(StatusCode::NO_CONTENT).await;
    change(&fresh, json!({ "password": "third" })).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(service.sign_in(HOME, "ada", "third").await.status, StatusCode::OK);
}

#[sqlx::test(migrations = false)]
async fn guesses_of_the_current_password_count_as_guesses_for_the_account(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, token) = service.register("ada").await;
    let guess = || {
        let body = json!({ "password": "mine", "current_password": "wrong" });
        service.put(&format!("/api/users/{ada}")).header("x-forwarded-for", HOME).bearer(&token).json(&body)
    };
    for _ in 0..5 {
        guess().expect(StatusCode::FORBIDDEN).await;
        assert_eq!(service.sign_in(HOME, "ada", "wrong").await.status, StatusCode::UNAUTHORIZED);
    }
    guess().expect(StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(service.sign_in(HOME, "ada", "wrong").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[sqlx::test(migrations = false)]
async fn strict_rules_refuse_passwords_that_are_guessed_early(pool: PgPool) {
    let service = Service::start(&pool).await;
    let register = |nickname: &str, password: &str, rules: Value| {
        let mut body = json!({ "nickname": nickname, "password": password });
        if !rules.is_null() {
            body["password_rules"] = rules;
        }
        service.post("/api/users").json(&body)
    };
    for password in ["1", "123456", "7654321", "password", "PassWord1", "iloveyou", "bernadette", "BernaDette"] {
        let refused = register("Bernadette", password, json!("strict")).expect(StatusCode::BAD_REQUEST).await;
        let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.starts_with("choose another password"), "{detail}");
    }
    register("Bernadette", "plover-1", json!("strict")).expect(StatusCode::CREATED).await;
    register("x", "plover-1", json!("lax")).expect(StatusCode::BAD_REQUEST).await;
    // Version 1 accepts what it has always accepted.
    register("v1", "1", Value::Null).expect(StatusCode::CREATED).await;

    let (carla, token) = service.register("carla-bruni").await;
    let change = |body: Value| service.put(&format!("/api/users/{carla}")).bearer(&token).json(&body);
    for password in ["carla-bruni", "sunshine"] {
        change(json!({ "password": password, "password_rules": "strict" })).expect(StatusCode::BAD_REQUEST).await;
    }
    let both = json!({ "nickname": "new-nickname", "password": "new-nickname", "password_rules": "strict" });
    change(both).expect(StatusCode::BAD_REQUEST).await;
    change(json!({ "password": "plover-22", "password_rules": "strict" })).expect(StatusCode::NO_CONTENT).await;
}
