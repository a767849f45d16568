//! What is never recommended, and what has no effect on the result.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, Service};

#[sqlx::test(migrations = false)]
async fn only_public_channels_in_use_that_the_caller_has_not_joined_are_recommended(pool: PgPool) {
    let service = Service::start(pool).await;
    service.channel(2, "joined", json!({})).await;
    service.channel(3, "secret", json!({ "kind": "private" })).await;
    service.channel(4, "direct-1", json!({ "kind": "direct" })).await;
    service.channel(5, "old", json!({ "archived_at": 5 })).await;
    service.channel(6, "open", json!({})).await;
    service.join(2, ADA).await;
    for id in 2..=6 {
        service.post(id, id, BOB, "puffin").await;
    }
    let puffin = |name: &str| (name.to_owned(), vec!["puffin".to_owned()]);
    assert_eq!(service.recommended(ADA).await, [puffin("open")]);

    service.leave(2, ADA).await;
    let names: Vec<_> = service.recommended(ADA).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["open", "joined"]);
    service.join(6, ADA).await;
    assert_eq!(service.recommended(ADA).await, [puffin("joined")]);
}

/// Neither the words nor the order depend on it.
#[sqlx::test(migrations = false)]
async fn a_private_channel_of_others_has_no_effect(pool: PgPool) {
    let service = Service::start(pool).await;
    service.channel(2, "sea", json!({})).await;
    service.channel(3, "birds", json!({})).await;
    service.channel(4, "chess", json!({})).await;
    service.channel(5, "secret", json!({ "kind": "private" })).await;
    service.join(2, ADA).await;
    service.post(1, 2, BOB, "puffin queen").await;
    service.post(2, 3, BOB, "puffin").await;
    service.post(3, 4, BOB, "queen").await;
    let list = async || service.get_as(ADA, "/api/recommend", StatusCode::OK).await;
    let before = list().await;

    service.join(5, BOB).await;
    for id in 10..=30 {
        service.post(id, 5, BOB, "puffin rook").await;
    }
    service.post(31, 4, BOB, "rook").await;
    service.delete_message(31, 4, BOB).await;
    assert_eq!(list().await, before);

    // Its members read it.
    service.join(5, ADA).await;
    service.post(32, 4, BOB, "rook").await;
    let of_chess = service.recommended(ADA).await.into_iter().find(|(name, _)| name == "chess").expect("chess").1;
    assert!(of_chess.contains(&"rook".to_owned()), "{of_chess:?}");
    service.leave(5, ADA).await;
    let of_chess = service.recommended(ADA).await.into_iter().find(|(name, _)| name == "chess").expect("chess").1;
    assert_eq!(of_chess, ["queen"]);
}

#[sqlx::test(migrations = false)]
async fn bad_input_and_a_missing_token_are_refused(pool: PgPool) {
    let service = Service::start(pool).await;
    service.get("/api/recommend").expect(StatusCode::UNAUTHORIZED).await;
    for limit in ["0", "21", "x", ""] {
        let problem = service.get_as(ADA, &format!("/api/recommend?limit={limit}"), StatusCode::BAD_REQUEST).await;
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("limit")), "{limit}: {problem}");
    }
    assert_eq!(GENERAL, flack_api::GENERAL_CHANNEL_ID);
}
