//! What users do, against a monolith that runs alone.

use axum::http::StatusCode;
use flack_testing::eventually;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Monolith, PASSWORD};

#[sqlx::test(migrations = false)]
async fn a_user_registers_signs_in_posts_and_signs_out(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let message = flack.post_message(&token, "hello **all**").await;

    let list = flack.get("/api/messages?include=nickname").expect(StatusCode::OK).await.json();
    let posted = &list["messages"][0];
    assert_eq!((posted["id"].as_i64(), posted["user_id"].as_i64()), (Some(message), Some(ada)));
    assert_eq!((&posted["nickname"], &posted["html"]), (&json!("ada"), &json!("<p>hello <strong>all</strong></p>\n")));

    let edit = flack.put(&format!("/api/messages/{message}")).bearer(&token).json(&json!({ "source": "bye" }));
    edit.expect(StatusCode::NO_CONTENT).await;
    let preferences = json!({ "theme": "dark", "notifications": true });
    let set = flack.put("/api/ui/preferences").bearer(&token).json(&preferences);
    set.expect(StatusCode::NO_CONTENT).await;
    let get = flack.get("/api/ui/preferences").bearer(&token);
    assert_eq!(get.expect(StatusCode::OK).await.json(), preferences);

    flack.delete("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    let user = flack.get(&format!("/api/users/{ada}")).expect(StatusCode::OK).await.json();
    assert_eq!(user["online"], false);
    flack.delete("/api/tokens").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    flack.put("/api/users/me").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
    flack.delete("/api/tokens").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn a_new_password_revokes_the_older_tokens_of_this_user_only(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    flack.register("bob").await;
    let (token, of_bob) = (flack.sign_in("ada", PASSWORD).await, flack.sign_in("bob", PASSWORD).await);

    let change = flack.put(&format!("/api/users/{ada}")).bearer(&token).json(&json!({ "password": "new" }));
    change.expect(StatusCode::NO_CONTENT).await;
    eventually("the old token is refused", async || {
        flack.put("/api/users/me").bearer(&token).send().await.status == StatusCode::UNAUTHORIZED
    })
    .await;
    flack.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
    let token = flack.sign_in("ada", "new").await;
    for token in [token, of_bob] {
        flack.put("/api/users/me").bearer(&token).expect(StatusCode::NO_CONTENT).await;
    }
}

#[sqlx::test(migrations = false)]
async fn tokens_requested_with_the_old_password_during_its_change_are_revoked(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let change = flack.put(&format!("/api/users/{ada}")).bearer(&token).json(&json!({ "password": "new" }));
    let sign_in = async || flack.post("/api/tokens").basic("ada", PASSWORD).send().await;
    let (_, first, second, third) =
        tokio::join!(change.expect(StatusCode::NO_CONTENT), sign_in(), sign_in(), sign_in());
    for answer in [first, second, third] {
        // Either users refused the old password, or tokens revokes what it issued for it.
        let Some(token) = answer.json()["token"].as_str().map(str::to_owned) else { continue };
        eventually("the token is revoked", async || {
            flack.put("/api/users/me").bearer(&token).send().await.status == StatusCode::UNAUTHORIZED
        })
        .await;
    }
}

#[sqlx::test(migrations = false)]
async fn tokens_and_revocations_survive_a_restart(pool: PgPool) {
    let before = Monolith::alone(&pool).await;
    before.register("ada").await;
    let (good, revoked) = (before.sign_in("ada", PASSWORD).await, before.sign_in("ada", PASSWORD).await);
    before.delete("/api/tokens").bearer(&revoked).expect(StatusCode::NO_CONTENT).await;

    drop(before);
    let after = Monolith::alone(&pool).await;
    after.put("/api/users/me").bearer(&good).expect(StatusCode::NO_CONTENT).await;
    after.put("/api/users/me").bearer(&revoked).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn it_serves_the_browser_app_the_documents_and_its_request_rate(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let page = flack.get("/").expect(StatusCode::OK).await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("default-src"));
    flack.get("/api/docs/").expect(StatusCode::OK).await;
    flack.get("/api/docs/openapi/users.v1.yaml").expect(StatusCode::OK).await;
    let stats = flack.get("/stats").expect(StatusCode::OK).await.json();
    assert!(stats["requests_per_second"].is_number());
    flack.get("/static/nothing.js").expect(StatusCode::NOT_FOUND).await;
}

#[sqlx::test(migrations = false)]
async fn two_users_talk_in_a_private_channel_that_does_not_exist_for_a_third(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let mut tokens = Vec::new();
    let mut ids = Vec::new();
    for nickname in ["ada", "bob", "eve"] {
        ids.push(flack.register(nickname).await);
        tokens.push(flack.sign_in(nickname, PASSWORD).await);
    }
    let body = json!({ "kind": "private", "name": "plans" });
    let create = flack.post("/api/v2/channels").bearer(&tokens[0]).json(&body);
    let channel = create.expect(StatusCode::CREATED).await.json();
    let path = format!("/api/v2/channels/{}", channel["id"]);
    let invite = flack.put(&format!("{path}/members/{}", ids[1])).bearer(&tokens[0]);
    invite.expect(StatusCode::NO_CONTENT).await;
    let post = flack.post(&format!("{path}/messages")).bearer(&tokens[1]).json(&json!({ "source": "hello" }));
    post.expect(StatusCode::CREATED).await;

    let page = flack.get(&format!("{path}/messages")).bearer(&tokens[0]).expect(StatusCode::OK).await.json();
    assert_eq!((&page["messages"][0]["nickname"], &page["messages"][0]["source"]), (&json!("bob"), &json!("hello")));
    let seen = flack.get(&path).bearer(&tokens[0]).expect(StatusCode::OK).await.json();
    assert_eq!(seen["member"]["unread"], 1);
    flack.get(&path).bearer(&tokens[2]).expect(StatusCode::NOT_FOUND).await;
    flack.get(&format!("{path}/messages")).bearer(&tokens[2]).expect(StatusCode::NOT_FOUND).await;
}
