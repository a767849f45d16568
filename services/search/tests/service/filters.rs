//! `from:`, `in:`, `before:` and `after:`, and queries that are refused.

use http::StatusCode;
use sqlx::PgPool;

use crate::support::{ADA, BOB, DIRECT, GENERAL, PRIVATE, Service, message, q_is};

/// Minutes of a day; the message with the id 0 is of noon.
const DAY: i64 = 24 * 60;

#[sqlx::test(migrations = false)]
async fn filters_choose_authors_channels_and_days(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "tea").await;
    service.message(2, GENERAL, BOB, "tea").await;
    service.message(DAY, PRIVATE, ADA, "tea").await;
    service.message(2 * DAY, DIRECT, BOB, "tea or coffee").await;
    for (q, expected) in [
        ("tea from:ADA", vec![DAY, 1]),
        ("tea from:@bob", vec![2 * DAY, 2]),
        ("from:ada", vec![DAY, 1]),
        ("in:#general", vec![2, 1]),
        ("tea in:plans from:ada", vec![DAY]),
        ("tea in:plans from:bob", vec![]),
        ("tea before:2026-11-02", vec![2, 1]),
        ("tea after:2026-11-01", vec![2 * DAY, DAY]),
        ("tea after:2026-11-01 before:2026-11-03", vec![DAY]),
        ("tea after:2026-11-30", vec![]),
        ("tea before:2000-01-01", vec![]),
        ("from:bob -coffee", vec![2]),
        ("!!! from:bob", vec![2 * DAY, 2]),
    ] {
        let mut found = service.found(ADA, q).await;
        found.sort_unstable_by_key(|id| -id);
        assert_eq!(found, expected, "{q}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_renamed_author_is_found_by_the_new_nickname(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "tea").await;
    service.user(ADA, "lovelace").await;
    assert_eq!(service.found(BOB, "from:lovelace").await, [1]);
    assert!(service.refused(BOB, "from:ada").await.contains("no user has this nickname"));
}

#[sqlx::test(migrations = false)]
async fn a_query_that_means_nothing_is_refused_with_the_reason(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "tea").await;
    for (q, reason) in [
        ("-tea", "only excludes"),
        ("tea or -coffee", "only excludes"),
        ("!!! ... 🎉", "nothing to be found"),
        ("before:2026-11-01", "nothing to be found"),
        ("tea from:nobody", "no user has this nickname"),
        ("tea in:nowhere", "no channel with this name"),
        ("tea \"green", "quotation mark without an end"),
        ("tea after:2026-02-30", "no day"),
        ("tea from:", "without a name"),
        ("tea\0", "NUL"),
    ] {
        let detail = service.refused(BOB, q).await;
        assert!(detail.contains(reason), "{q}: {detail}");
    }
    for parameters in ["", "q=", "q=tea&limit=0", "q=tea&limit=51", "q=tea&cursor=x", "q=tea&cursor=%27"] {
        service.search(BOB, parameters, StatusCode::BAD_REQUEST).await;
    }
    service.search(BOB, &q_is(&"x".repeat(201)), StatusCode::BAD_REQUEST).await;
    // Whatever is between the words, PostgreSQL's parser accepts it.
    for q in ["tea' or 1=1 --", "tea & | ! ( ) : * < >", "tea:* \\", "tea <-> <2>", "(((tea"] {
        service.search(BOB, &q_is(q), StatusCode::OK).await;
    }
}

#[sqlx::test(migrations = false)]
async fn before_a_day_finds_old_messages_among_many_newer_ones(pool: PgPool) {
    let service = Service::start(pool).await;
    let buckets = 8_192;
    for id in [1, buckets, 3 * buckets, 5 * buckets] {
        service.publish("messages", 1, "message_changed", &id.to_string(), message(id, GENERAL, ADA, "tea")).await;
    }
    assert_eq!(service.found(BOB, "tea").await, [5 * buckets, 3 * buckets, buckets, 1]);
    assert_eq!(service.found(BOB, "tea before:2026-11-10").await, [buckets, 1]);
    assert_eq!(service.found(BOB, "tea after:2026-11-10").await, [5 * buckets, 3 * buckets]);
}
