//! What the header of `connection.rs` asks for is enough, and a service that wants more does not get it.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;

use crate::{
    nats::Nats,
    things::{database, insert, next_name, queue_length, read, relay, wait_for},
};

const SETTINGS: &str = r#"
authorization { users = [
    { user: things, password: "a", permissions: {
        publish: { allow: ["flack.things.>", "$JS.API.STREAM.INFO.THINGS", "$JS.API.STREAM.CREATE.THINGS", "$JS.API.STREAM.UPDATE.THINGS"] }
        subscribe: { allow: ["_INBOX.things.>"] } } }
    { user: reader, password: "b", permissions: {
        publish: { allow: ["$JS.API.STREAM.INFO.THINGS", "$JS.API.CONSUMER.CREATE.THINGS", "$JS.API.CONSUMER.CREATE.THINGS.>",
            "$JS.API.CONSUMER.INFO.THINGS.*", "$JS.API.CONSUMER.DELETE.THINGS.*", "$JS.API.CONSUMER.MSG.NEXT.THINGS.*"] }
        subscribe: { allow: ["_INBOX.reader.>"] } } }
] }
"#;

#[sqlx::test(migrations = false)]
async fn an_owner_publishes_and_a_reader_reads_with_the_least_permissions(pool: PgPool) {
    database(&pool).await;
    let nats = Nats::with_settings(SETTINGS).await;
    let (owner, reader) = (nats.events_as("things", "a").await, nats.events_as("reader", "b").await);
    relay(&pool, &owner);
    let mut all = read(&reader);
    let mut filtered =
        reader.subscribe("things", Some("thing_changed"), flack_common::events::StartOffset::Earliest);
    insert(&pool, "told").await;
    assert_eq!(next_name(&mut all).await, "told");
    assert_eq!(next_name(&mut filtered).await, "told");
}

#[sqlx::test(migrations = false)]
async fn a_reader_cannot_publish_in_the_owners_name(pool: PgPool) {
    database(&pool).await;
    let nats = Nats::with_settings(SETTINGS).await;
    let (owner, intruder) = (nats.events_as("things", "a").await, nats.events_as("reader", "b").await);
    let relaying = relay(&pool, &owner);
    insert(&pool, "true").await;
    wait_for("the queue is empty", async || queue_length(&pool).await == 0).await;
    relaying.abort();

    let mut reader = read(&intruder);
    assert_eq!(next_name(&mut reader).await, "true");
    intruder.signal("flack.things.thing_changed.1", "forged".into()).await;
    // A relay with the intruder's user gets nowhere either.
    let forging = relay(&pool, &intruder);
    insert(&pool, "forged").await;
    let heard = timeout(Duration::from_secs(1), next_name(&mut reader)).await;
    assert!(heard.is_err(), "heard {heard:?}");
    assert_eq!(queue_length(&pool).await, 1, "it waits for its owner");
    forging.abort();
    relay(&pool, &owner);
    assert_eq!(next_name(&mut reader).await, "forged");
}
