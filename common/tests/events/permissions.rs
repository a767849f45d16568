//! The NATS permissions in `connection.rs` are sufficient, and other operations are refused.

use std::time::Duration;

use flack_testing::Nats;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::things::{database, insert, next_name, queue_length, read, relay, wait_for};

const SETTINGS: &str = r#"
authorization { users = [
    { user: things, password: "a", permissions: {
        publish: { allow: ["flack.things.>", "$JS.API.STREAM.INFO.THINGS", "$JS.API.STREAM.CREATE.THINGS",
            "$JS.API.STREAM.UPDATE.THINGS"] }
        subscribe: { allow: ["_INBOX.things.>"] } } }
    { user: reader, password: "b", permissions: {
        publish: { allow: ["$JS.API.STREAM.INFO.THINGS", "$JS.API.CONSUMER.CREATE.THINGS",
            "$JS.API.CONSUMER.CREATE.THINGS.>", "$JS.API.CONSUMER.INFO.THINGS.*", "$JS.API.CONSUMER.DELETE.THINGS.*",
            "$JS.API.CONSUMER.MSG.NEXT.THINGS.*"] }
        subscribe: { allow: ["_INBOX.reader.>"] } } }
] }
"#;

#[sqlx::test(migrations = false)]
async fn the_documented_permissions_are_sufficient_to_publish_and_to_subscribe(pool: PgPool) {
    database(&pool).await;
    let nats = Nats::with_settings(SETTINGS).await;
    let (owner, reader) = (nats.events_as("things", "a").await, nats.events_as("reader", "b").await);
    relay(&pool, &owner);
    let mut all = read(&reader);
    let mut filtered = reader.subscribe("things", Some("thing_changed"), flack_common::events::StartOffset::Earliest);
    insert(&pool, "published").await;
    assert_eq!(next_name(&mut all).await, "published");
    assert_eq!(next_name(&mut filtered).await, "published");
}

#[sqlx::test(migrations = false)]
async fn a_service_cannot_publish_to_the_stream_of_another_owner(pool: PgPool) {
    database(&pool).await;
    let nats = Nats::with_settings(SETTINGS).await;
    let (owner, intruder) = (nats.events_as("things", "a").await, nats.events_as("reader", "b").await);
    let relaying = relay(&pool, &owner);
    insert(&pool, "true").await;
    wait_for("the queue to be empty", async || queue_length(&pool).await == 0).await;
    relaying.abort();

    let mut reader = read(&intruder);
    assert_eq!(next_name(&mut reader).await, "true");
    intruder.signal("flack.things.thing_changed.1", "forged".into()).await;
    // A relay with the intruder's user cannot publish either.
    let forging = relay(&pool, &intruder);
    insert(&pool, "forged").await;
    let received = timeout(Duration::from_secs(1), next_name(&mut reader)).await;
    assert!(received.is_err(), "received {received:?}");
    assert_eq!(queue_length(&pool).await, 1, "it waits for the owner's relay");
    forging.abort();
    relay(&pool, &owner);
    assert_eq!(next_name(&mut reader).await, "forged");
}
