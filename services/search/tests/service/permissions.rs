//! Who finds what: the channels that the user can read at the moment of the query.

use http::StatusCode;
use sqlx::PgPool;

use crate::support::{ADA, BOB, DIRECT, GENERAL, PRIVATE, Service};

const CAROL: i64 = 3;

#[sqlx::test(migrations = false)]
async fn a_stranger_finds_nothing_of_private_and_direct_channels(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "secret").await;
    service.message(2, PRIVATE, ADA, "secret").await;
    service.message(3, DIRECT, BOB, "secret").await;
    assert_eq!(service.found(ADA, "secret").await, [3, 2, 1]);
    assert_eq!(service.found(BOB, "secret").await, [3, 1]);
    assert_eq!(service.found(CAROL, "secret").await, [1], "a user whose events have not arrived reads public ones");
    assert_eq!(service.found(CAROL, "from:bob").await, [0; 0]);
    // The answer is that for a channel that does not exist.
    let [private, missing] = [service.refused(BOB, "in:plans").await, service.refused(BOB, "in:missing").await];
    assert_eq!(private.replace("plans", "missing"), missing);
    service.refused(CAROL, "in:direct-1").await;
}

#[sqlx::test(migrations = false)]
async fn a_user_who_leaves_a_private_channel_finds_nothing_of_it_any_more(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, PRIVATE, ADA, "secret").await;
    service.member(PRIVATE, BOB, None).await;
    assert_eq!(service.found(BOB, "secret").await, [1], "also what was posted before");
    service.member(PRIVATE, BOB, Some(2)).await;
    assert_eq!(service.found(BOB, "secret").await, [0; 0]);
    service.member(PRIVATE, BOB, None).await;
    assert_eq!(service.found(BOB, "secret").await, [1]);
}

#[sqlx::test(migrations = false)]
async fn a_message_of_a_channel_that_is_not_known_yet_is_not_found(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, 77, ADA, "early").await;
    service.member(78, BOB, None).await;
    service.message(2, 78, ADA, "early").await;
    assert_eq!(service.found(BOB, "early").await, [0; 0]);
    service.channel(77, "late", "public").await;
    service.channel(78, "later", "private").await;
    assert_eq!(service.found(BOB, "early").await, [2, 1]);
}

#[sqlx::test(migrations = false)]
async fn a_search_needs_a_valid_token(pool: PgPool) {
    let service = Service::start(pool).await;
    service.get("/api/search?q=tea").expect(StatusCode::UNAUTHORIZED).await;
    for token in [service.expired_token(ADA), service.revoked_token(ADA), "x".to_owned()] {
        service.get("/api/search?q=tea").bearer(&token).expect(StatusCode::UNAUTHORIZED).await;
    }
}
