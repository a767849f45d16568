//! The NATS permissions in `connection.rs` are sufficient, and other operations are refused.

use std::time::Duration;

use flack_common::events::{Events, StartOffset, prepare_stream};
use flack_testing::{Nats, eventually_within};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::things::{WAIT_MAX, database, insert, next_name, queue_length, read, relay};

const SETTINGS: &str = r#"
authorization { users = [
    { user: administrator, password: "a" }
    { user: things, password: "b", permissions: {
        publish: { allow: ["flack.things.*.>", "$JS.API.STREAM.INFO.THINGS"] }
        subscribe: { allow: ["_INBOX.things.>"] } } }
    { user: reader, password: "c", permissions: {
        publish: { allow: ["$JS.API.STREAM.INFO.THINGS", "$JS.API.DIRECT.GET.THINGS"] }
        subscribe: { allow: ["_INBOX.reader.>", "stream.things.>"] } } }
] }
"#;

/// Starts a server with these users and the stream THINGS. Returns it with the event buses of owner and reader.
async fn start() -> (Nats, Events, Events) {
    let nats = Nats::with_settings(SETTINGS).await;
    let options = async_nats::ConnectOptions::with_user_and_password("administrator".to_owned(), "a".to_owned());
    let administrator = options.connect(nats.url()).await.expect("it listens");
    prepare_stream(&administrator, "things", 1).await.expect("an administrator may make it");
    let (owner, reader) = (nats.events_as("things", "b").await, nats.events_as("reader", "c").await);
    (nats, owner, reader)
}

#[tokio::test]
async fn administrators_may_make_a_stream_at_the_same_time() {
    let nats = Nats::with_settings("").await;
    let client = nats.client().await;
    // Each of them finds no stream.
    let made = futures::future::join_all((0..4).map(|_| prepare_stream(client, "things", 1))).await;
    made.into_iter().collect::<Result<Vec<_>, _>>().expect("one of them has made it");
}

#[sqlx::test(migrations = false)]
async fn the_documented_permissions_are_sufficient_to_publish_and_to_subscribe(pool: PgPool) {
    database(&pool).await;
    let (_nats, owner, reader) = start().await;
    relay(&pool, &owner);
    let mut all = read(&reader);
    let mut filtered = reader.subscribe("things", Some("thing_changed"), StartOffset::Earliest);
    insert(&pool, "published").await;
    assert_eq!(next_name(&mut all).await, "published");
    assert_eq!(next_name(&mut filtered).await, "published");
}

#[sqlx::test(migrations = false)]
async fn a_service_cannot_publish_to_the_stream_of_another_owner(pool: PgPool) {
    database(&pool).await;
    let (_nats, owner, intruder) = start().await;
    let relaying = relay(&pool, &owner);
    insert(&pool, "true").await;
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    relaying.abort();

    let mut reader = read(&intruder);
    assert_eq!(next_name(&mut reader).await, "true");
    for subject in ["flack.things.thing_changed.1", "stream.things.thing_changed.1"] {
        intruder.signal(subject, "forged".into()).await;
    }
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
