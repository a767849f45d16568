//! The limit of a user's writes: one quota for all parts, for requests and for messages on a websocket.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    sockets::Socket,
    support::{Monolith, PASSWORD},
};

#[sqlx::test(migrations = false)]
async fn a_user_has_one_quota_of_writes_for_all_parts(pool: PgPool) {
    let flack = Monolith::limited(&pool, 5).await;
    let ada = flack.register("ada").await;
    flack.register("bob").await;
    let (of_ada, of_bob) = (flack.sign_in("ada", PASSWORD).await, flack.sign_in("bob", PASSWORD).await);
    let message = json!({ "source": "x" });
    let user = format!("/api/users/{ada}");
    let writes = [
        (Method::POST, "/api/messages", message.clone(), StatusCode::CREATED),
        (Method::PUT, "/api/messages/1", message.clone(), StatusCode::NO_CONTENT),
        (Method::PUT, "/api/users/me", Value::Null, StatusCode::NO_CONTENT),
        (Method::PUT, "/api/ui/preferences", json!({ "theme": "dark", "notifications": true }), StatusCode::NO_CONTENT),
        (Method::PUT, &user, json!({}), StatusCode::NO_CONTENT),
    ];
    let write = async |token: &str, method: &Method, path: &str, body: &Value, expected: StatusCode| {
        let call = flack.request(method.clone(), path).bearer(token);
        let call = if body.is_null() { call } else { call.json(body) };
        call.expect(expected).await
    };
    for (left, (method, path, body, expected)) in (0..5).rev().zip(&writes) {
        let answer = write(&of_ada, method, path, body, *expected).await;
        assert_eq!(answer.header("ratelimit-policy"), r#""writes";q=5;w=10"#, "{path}");
        let state = answer.header("ratelimit");
        assert!(state.starts_with(&format!(r#""writes";r={left};t="#)), "{path}: {state}");
    }
    for (method, path, body, _) in &writes {
        let answer = write(&of_ada, method, path, body, StatusCode::TOO_MANY_REQUESTS).await;
        assert!(["1", "2"].contains(&answer.header("retry-after")), "{path}");
        assert_eq!(answer.json()["type"], "/api/docs/problems#too-many-requests", "{path}");
    }
    write(&of_ada, &Method::DELETE, "/api/tokens", &Value::Null, StatusCode::TOO_MANY_REQUESTS).await;
    flack.get("/api/messages").bearer(&of_ada).expect(StatusCode::OK).await;
    flack.post("/api/messages").bearer(&of_bob).json(&message).expect(StatusCode::CREATED).await;
}

#[sqlx::test(migrations = false)]
async fn a_message_on_a_websocket_counts_once(pool: PgPool) {
    let flack = Monolith::limited(&pool, 4).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let mut socket = Socket::open(&flack).await;
    socket.send(json!({ "type": "hello", "token": token })).await;
    let mut statuses = Vec::new();
    for number in 0..5 {
        let id = format!("0190163d-8694-739b-aea5-966c26f8ad9{number}");
        socket.send(json!({ "type": "post_message", "id": id, "channel": "general", "source": "x" })).await;
        let answer = socket.wait_for(|frame| frame["id"] == *id).await;
        statuses.push(answer["status"].as_u64());
    }
    assert_eq!(statuses, [None, None, None, None, Some(429)]);
    let call = flack.post("/api/messages").bearer(&token).json(&json!({ "source": "x" }));
    call.expect(StatusCode::TOO_MANY_REQUESTS).await;
}
