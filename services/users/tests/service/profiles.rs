//! Profiles, in version 2.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Service, published};

async fn change(service: &Service, token: &str, id: i64, body: &Value, expected: StatusCode) -> Value {
    let call = service.request(Method::PATCH, &format!("/api/v2/profiles/{id}")).bearer(token);
    call.json(body).expect(expected).await.json()
}

async fn list(service: &Service, query: &str) -> Vec<i64> {
    let list = service.get(&format!("/api/v2/profiles{query}")).expect(StatusCode::OK).await.json();
    list["profiles"].as_array().expect("a list").iter().filter_map(|profile| profile["user_id"].as_i64()).collect()
}

#[sqlx::test(migrations = false)]
async fn a_user_changes_the_own_profile_and_version_1_does_not_show_it(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (id, token) = service.register("ada").await;
    let v1 = service.get(&format!("/api/users/{id}")).expect(StatusCode::OK).await.json();
    let path = format!("/api/v2/profiles/{id}");
    let empty = json!({ "user_id": id, "display_name": "", "about": "", "version": 1 });
    assert_eq!(service.get(&path).expect(StatusCode::OK).await.json(), empty);

    let body = json!({ "display_name": " Ada L. ", "about": "Engines.\nAnd numbers.", "hue": 120 });
    let expected =
        json!({ "user_id": id, "display_name": "Ada L.", "about": "Engines.\nAnd numbers.", "hue": 120, "version": 2 });
    assert_eq!(change(&service, &token, id, &body, StatusCode::OK).await, expected);
    assert_eq!(change(&service, &token, id, &body, StatusCode::OK).await, expected, "a repetition is no change");
    assert_eq!(service.get(&path).expect(StatusCode::OK).await.json(), expected);
    let mut after = service.get(&format!("/api/users/{id}")).expect(StatusCode::OK).await.json();
    after["updated_at"] = v1["updated_at"].clone();
    assert_eq!(after, v1);

    let event = published(&pool, 2).await.pop().expect("two events");
    let data = &event["data"];
    assert_eq!((&data["display_name"], &data["hue"], &event["version"]), (&json!("Ada L."), &json!(120), &json!(2)));

    let body = json!({ "display_name": "", "about": "", "hue": -1 });
    let empty = json!({ "user_id": id, "display_name": "", "about": "", "version": 3 });
    assert_eq!(change(&service, &token, id, &body, StatusCode::OK).await, empty);
}

#[sqlx::test(migrations = false)]
async fn a_profile_that_is_refused_stays_as_it_is(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (id, token) = service.register("ada").await;
    let (other, _) = service.register("bob").await;
    for body in [
        json!({ "display_name": "x".repeat(41) }),
        json!({ "about": "x".repeat(501) }),
        json!({ "display_name": "two\nlines" }),
        json!({ "display_name": "\u{202e}ada" }),
        json!({ "display_name": "\u{3164}" }),
        json!({ "about": "\u{0}" }),
        json!({ "hue": 360 }),
        json!({ "hue": -2 }),
        json!({ "hue": "red" }),
        json!([]),
    ] {
        change(&service, &token, id, &body, StatusCode::BAD_REQUEST).await;
    }
    let body = json!({ "display_name": "x" });
    change(&service, &token, other, &body, StatusCode::FORBIDDEN).await;
    change(&service, &token, 4711, &body, StatusCode::NOT_FOUND).await;
    service
        .request(Method::PATCH, &format!("/api/v2/profiles/{id}"))
        .json(&body)
        .expect(StatusCode::UNAUTHORIZED)
        .await;
    service.get("/api/v2/profiles/4711").expect(StatusCode::NOT_FOUND).await;
    assert_eq!(list(&service, "").await, Vec::<i64>::new());
}

#[sqlx::test(migrations = false)]
async fn the_changes_of_a_profile_in_ten_seconds_are_limited(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (id, token) = service.register("ada").await;
    for number in 0..10 {
        change(&service, &token, id, &json!({ "hue": number }), StatusCode::OK).await;
    }
    change(&service, &token, id, &json!({ "hue": 10 }), StatusCode::TOO_MANY_REQUESTS).await;
}

#[sqlx::test(migrations = false)]
async fn profiles_are_listed_by_user_and_empty_ones_are_left_out(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (first, token) = service.register("ada").await;
    service.register("bob").await;
    let (third, third_token) = service.register("carol").await;
    change(&service, &token, first, &json!({ "hue": 0 }), StatusCode::OK).await;
    change(&service, &third_token, third, &json!({ "about": "hi" }), StatusCode::OK).await;
    assert_eq!(list(&service, "").await, [first, third]);
    assert_eq!(list(&service, &format!("?after={first}")).await, [third]);
}
