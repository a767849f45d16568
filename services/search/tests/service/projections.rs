//! The projections: a rebuild, a change of the owner, and events of other kinds.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, PRIVATE, Service, message};

const ROWS: &str = "select concat_ws(' ',
    (select string_agg(item::text, ',' order by id) from messages as item),
    (select string_agg(item::text, ',' order by id) from channels as item),
    (select string_agg(item::text, ',' order by id) from channel_members as item),
    (select string_agg(item::text, ',' order by user_id) from nicknames as item))";

async fn rows(service: &Service) -> String {
    service.settle().await;
    sqlx::query_scalar(ROWS).fetch_one(&service.pool).await.expect("a text")
}

#[sqlx::test(migrations = false)]
async fn a_rebuild_makes_the_same_rows(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "a draft").await;
    service.message(1, GENERAL, ADA, "the final text").await;
    service.message(2, PRIVATE, ADA, "a secret").await;
    let before = rows(&service).await;
    for source in ["messages", "users"] {
        sqlx::query("select clear_projections($1)").bind(source).execute(&service.pool).await.expect("cleared");
    }
    assert_eq!(rows(&service).await, "", "everything is a projection");

    // The snapshot: the present state of each row, as new events.
    service.user(ADA, "ada").await;
    service.user(BOB, "bob").await;
    service.message(2, PRIVATE, ADA, "a secret").await;
    service.message(1, GENERAL, ADA, "the final text").await;
    for (id, name, kind) in [(1, "general", "public"), (2, "plans", "private"), (3, "direct-1", "direct")] {
        service.channel(id, name, kind).await;
    }
    for (channel_id, user_id) in [(2, ADA), (3, ADA), (3, BOB)] {
        service.member(channel_id, user_id, None).await;
    }
    assert_eq!(rows(&service).await, before);
}

#[sqlx::test(migrations = false)]
async fn an_event_of_a_former_owner_does_not_replace_a_newer_one(pool: PgPool) {
    let service = Service::start(pool).await;
    let publish = async |owner, epoch, source| {
        service.publish(owner, epoch, "message_changed", "1", message(1, GENERAL, ADA, source)).await;
        service.settle().await;
    };
    publish("monolith", 2, "old").await;
    assert_eq!(service.found(BOB, "old").await, [1]);
    publish("messages", 3, "new").await;
    publish("monolith", 2, "late").await;
    assert_eq!(service.found(BOB, "late").await, [0; 0]);
    assert_eq!(service.found(BOB, "new").await, [1]);
}

#[sqlx::test(migrations = false)]
async fn events_of_other_and_unknown_kinds_are_ignored(pool: PgPool) {
    let service = Service::start(pool).await;
    service.publish_other("monolith", 1, "poll_changed", "1", json!({ "id": 1 })).await;
    service.publish_other("monolith", 1, "preferences_changed", "1", json!({ "user_id": 1 })).await;
    service.message(1, GENERAL, ADA, "tea").await;
    assert_eq!(service.found(BOB, "tea").await, [1]);
}

#[sqlx::test(migrations = false)]
async fn a_reaction_to_a_message_writes_no_row(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "tea").await;
    let version = "select xmin::text from messages";
    service.settle().await;
    let before: String = sqlx::query_scalar(version).fetch_one(&service.pool).await.expect("a row");
    let mut data = message(1, GENERAL, ADA, "tea");
    data["reactions"] = json!([{ "emoji": "👍", "user_ids": [BOB] }]);
    service.publish("messages", 1, "message_changed", "1", data).await;
    service.settle().await;
    let after: String = sqlx::query_scalar(version).fetch_one(&service.pool).await.expect("a row");
    assert_eq!(before, after);
}
