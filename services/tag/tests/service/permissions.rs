//! Messages that the caller cannot read are never marked.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, Service};

#[sqlx::test(migrations = false)]
async fn messages_of_a_private_channel_are_marked_for_its_present_members_only(pool: PgPool) {
    let service = Service::start(pool).await;
    service.channel(2, "secret", json!({ "kind": "private", "topic": "Launch" })).await;
    service.channel(3, "direct-1", json!({ "kind": "direct" })).await;
    service.prefer(ADA, json!({ "words": ["release"], "people": [BOB], "topics": ["launch", "secret"] })).await;
    service.post(1, 2, BOB, "release").await;
    service.post(2, 3, BOB, "release").await;
    let marked = async || {
        let (newest, named) = (service.marked(ADA).await, service.marked_at("/api/tag?ids=1,2", ADA).await);
        assert_eq!(newest, named);
        newest.as_array().map_or(0, Vec::len)
    };
    assert_eq!(marked().await, 0);
    service.join(2, ADA).await;
    assert_eq!(marked().await, 1);
    service.join(3, ADA).await;
    assert_eq!(marked().await, 2);
    service.leave(2, ADA).await;
    assert_eq!(marked().await, 1);
    // A public channel can be read by everybody.
    service.channel(2, "secret", json!({ "topic": "Launch" })).await;
    assert_eq!(marked().await, 2);
}

#[sqlx::test(migrations = false)]
async fn bad_input_and_a_missing_token_are_refused(pool: PgPool) {
    let service = Service::start(pool).await;
    service.get("/api/tag").expect(StatusCode::UNAUTHORIZED).await;
    let many = (1..=101).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    for (parameter, value) in
        [("limit", "0"), ("limit", "101"), ("limit", "x"), ("ids", ""), ("ids", "1,"), ("ids", "a"), ("ids", &many)]
    {
        let path = format!("/api/tag?{parameter}={value}");
        let problem = service.get_as(ADA, &path, StatusCode::BAD_REQUEST).await;
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(parameter)), "{value}: {problem}");
    }
}
