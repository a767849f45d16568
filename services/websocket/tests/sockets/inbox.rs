//! A client with a cursor older than the ring gets what it missed from the inbox, once.

use std::time::Duration;

use flack_common::database;
use flack_websocket::{MIGRATIONS, Retention};
use sqlx::PgPool;

use crate::{
    client::{Client, TIMEOUT},
    nats::{Nats, message},
    server::Server,
};

/// A ring so small that clients need the inbox.
fn small_ring() -> Retention {
    Retention { events_max: 4, tail_messages_max: 4, ..Retention::default() }
}

async fn migrated(pool: PgPool) -> PgPool {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    pool
}

/// Expects these messages, each once and in order.
async fn expect(client: &mut Client, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        assert_eq!(client.next_source().await, id.to_string());
    }
}

async fn publish(nats: &Nats, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        nats.publish_message(id, &id.to_string()).await;
    }
}

/// Waits until the inbox holds this message.
async fn wait_until_stored(pool: &PgPool, entity_id: i64) {
    let stored = async {
        while !sqlx::query_scalar::<_, bool>("select exists (select from inbox where entity_id = $1)")
            .bind(entity_id.to_string())
            .fetch_one(pool)
            .await
            .expect("reads work")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, stored).await.expect("the inbox writer stores it");
}

#[sqlx::test(migrations = false)]
async fn a_cursor_older_than_the_ring_is_resumed_while_new_messages_arrive(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = server.guest().await;
    publish(&nats, [1]).await;
    expect(&mut client, [1]).await;
    publish(&nats, 2..=300).await;
    let (back, ()) = tokio::join!(client.reconnect_to(server.address), publish(&nats, 301..=600));
    let (mut back, resumed) = back;
    assert!(resumed);
    expect(&mut back, 2..=600).await;
    publish(&nats, [601]).await;
    expect(&mut back, [601]).await;
}

#[sqlx::test(migrations = false)]
async fn a_client_that_disconnects_during_a_backfill_continues_there(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = server.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    publish(&nats, 2..=60).await;
    let (mut back, resumed) = client.reconnect_to(server.address).await;
    assert!(resumed);
    expect(&mut back, 2..=20).await;
    let (mut again, resumed) = back.reconnect_to(server.address).await;
    assert!(resumed);
    expect(&mut again, 21..=60).await;
}

#[sqlx::test(migrations = false)]
async fn a_new_instance_resumes_cursors_older_than_what_nats_retains(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let old = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = old.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    publish(&nats, 2..=30).await;
    wait_until_stored(&pool, 30).await;
    drop(old);
    nats.purge("MESSAGES").await;
    publish(&nats, 31..=40).await;
    let new = Server::with_inbox(&nats, small_ring(), &pool).await;
    let (mut back, resumed) = client.reconnect_to(new.address).await;
    assert!(resumed);
    expect(&mut back, 2..=40).await;
}

#[sqlx::test(migrations = false)]
async fn a_cursor_before_a_gap_in_the_inbox_is_not_resumed(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let old = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = old.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    wait_until_stored(&pool, 1).await;
    drop(old);
    // NATS loses these messages while no instance runs to store them.
    publish(&nats, 2..=5).await;
    nats.purge("MESSAGES").await;
    publish(&nats, 6..=20).await;
    let new = Server::with_inbox(&nats, small_ring(), &pool).await;
    wait_until_stored(&pool, 20).await;
    let (mut back, resumed) = client.reconnect_to(new.address).await;
    assert!(!resumed);
    publish(&nats, 21..=21).await;
    expect(&mut back, 21..=21).await;
}

#[sqlx::test(migrations = false)]
async fn one_of_two_instances_writes_the_inbox_and_the_other_takes_over(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let first = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = first.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    let second = Server::with_inbox(&nats, small_ring(), &pool).await;
    publish(&nats, 2..=50).await;
    drop(first);
    publish(&nats, 51..=100).await;
    wait_until_stored(&pool, 100).await;
    let (mut back, resumed) = client.reconnect_to(second.address).await;
    assert!(resumed);
    expect(&mut back, 2..=100).await;
    let stored: i64 = sqlx::query_scalar("select count(*) from inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 100);
}

#[sqlx::test(migrations = false)]
async fn a_client_that_missed_too_many_events_reloads(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let retention = Retention { backfill_frames_max: 20, ..small_ring() };
    let server = Server::with_inbox(&nats, retention, &pool).await;
    let mut client = server.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    publish(&nats, 2..=60).await;
    let (mut back, resumed) = client.reconnect_to(server.address).await;
    assert!(!resumed);
    publish(&nats, 61..=61).await;
    expect(&mut back, 61..=61).await;
}

#[sqlx::test(migrations = false)]
async fn without_the_database_events_are_delivered_and_only_old_cursors_are_not_resumed(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let retention = Retention { resume_timeout: Duration::from_millis(100), ..small_ring() };
    let server = Server::with_inbox(&nats, retention, &pool).await;
    let mut client = server.guest().await;
    publish(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    pool.close().await;
    let mut staying = server.guest().await;
    publish(&nats, 2..=20).await;
    expect(&mut staying, 2..=20).await;
    let (mut back, resumed) = client.reconnect_to(server.address).await;
    assert!(!resumed);
    publish(&nats, 21..=21).await;
    expect(&mut back, 21..=21).await;
    expect(&mut staying, 21..=21).await;
    let (mut again, resumed) = back.reconnect_to(server.address).await;
    assert!(resumed, "the ring still holds what was missed");
    publish(&nats, 22..=22).await;
    expect(&mut again, 22..=22).await;
}

#[sqlx::test(migrations = false)]
async fn a_backfill_holds_a_version_of_two_streams_once_and_not_if_the_client_has_received_it(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut early = server.guest().await;
    publish(&nats, [1]).await;
    expect(&mut early, [1]).await;
    let mut late = server.guest().await;
    nats.publish("monolith", "message_changed", message(2, "2")).await;
    expect(&mut late, [2]).await;
    // The other stream gets the same version a moment later.
    publish(&nats, 2..=60).await;
    for (client, first) in [(early, 2), (late, 3)] {
        let (mut back, resumed) = client.reconnect_to(server.address).await;
        assert!(resumed);
        expect(&mut back, first..=60).await;
    }
}
