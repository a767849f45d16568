//! Link previews, across a restart and for internal addresses.

use axum::http::StatusCode;
use flack_testing::eventually;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Monolith, PASSWORD};

#[sqlx::test(migrations = false)]
async fn a_restarted_process_repeats_the_preview_jobs_of_a_killed_one(pool: PgPool) {
    let before = Monolith::alone(&pool).await;
    before.register("ada").await;
    let token = before.sign_in("ada", PASSWORD).await;
    let message = before.post_message(&token, "no link yet").await;
    drop(before);
    // A job that a killed process has taken, after the end of its lease. The address is internal, so that the job fails
    // without a request.
    sqlx::query(
        "insert into link_previews (message_id, position, url, attempts, next_attempt_at, correlation_id)
         values ($1, 0, 'http://127.0.0.1:1/', 1, now() - interval '1 minute', 'post-1')",
    )
    .bind(message)
    .execute(&pool)
    .await
    .expect("an insert");

    let _after = Monolith::alone(&pool).await;
    eventually("the preview has failed", async || {
        let state: String =
            sqlx::query_scalar("select state from link_previews").fetch_one(&pool).await.expect("a preview");
        state == "failed"
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_link_to_an_internal_address_is_shown_but_not_fetched(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let call = flack.post("/api/messages").bearer(&token);
    let message = call.json(&json!({ "source": "see http://127.0.0.1:1/secret" })).expect(StatusCode::CREATED).await;
    assert!(message.json()["html"].as_str().is_some_and(|html| html.contains("<a href=\"http://127.0.0.1:1/secret\"")));
    eventually("the preview has failed", async || {
        let states: Vec<String> =
            sqlx::query_scalar("select state from link_previews").fetch_all(&pool).await.expect("previews");
        states == ["failed"]
    })
    .await;
}
