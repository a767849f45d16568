//! A client with a cursor older than the ring buffer gets what it missed from the inbox, once.

use std::time::Duration;

use flack_common::database;
use flack_testing::{Nats, eventually};
use flack_websocket::{MIGRATIONS, Retention};
use sqlx::PgPool;

use crate::{
    client::Client,
    model::{message, publish_message},
    server::Server,
};

/// A ring buffer so small that clients need the inbox.
fn small_ring() -> Retention {
    Retention { events_max: 4, tail_messages_max: 4, ..Retention::default() }
}

/// Starts an instance, and a client that has received message 1.
async fn start(pool: &PgPool, retention: Retention) -> (Nats, Server, Client) {
    database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, retention, pool).await;
    let mut client = server.anonymous().await;
    publish(&nats, [1]).await;
    expect(&mut client, [1]).await;
    (nats, server, client)
}

/// Expects these messages, each once and in order.
async fn expect(client: &mut Client, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        assert_eq!(client.next_source().await, id.to_string());
    }
}

async fn publish(nats: &Nats, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        publish_message(nats, id, &id.to_string()).await;
    }
}

/// Waits until the inbox holds this message.
async fn wait_until_stored(pool: &PgPool, entity_id: i64) {
    eventually("the inbox writer has stored it", async || {
        sqlx::query_scalar("select exists (select from inbox where entity_id = $1)")
            .bind(entity_id.to_string())
            .fetch_one(pool)
            .await
            .expect("reads work")
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_cursor_older_than_the_ring_buffer_is_resumed_while_new_messages_arrive(pool: PgPool) {
    let (nats, server, client) = start(&pool, small_ring()).await;
    publish(&nats, 2..=300).await;
    let (mut client, ()) = tokio::join!(client.resume_at(&server), publish(&nats, 301..=600));
    expect(&mut client, 2..=600).await;
    publish(&nats, [601]).await;
    expect(&mut client, [601]).await;
}

#[sqlx::test(migrations = false)]
async fn a_message_with_the_text_of_an_escape_is_in_the_inbox(pool: PgPool) {
    let (nats, server, client) = start(&pool, small_ring()).await;
    publish_message(&nats, 2, r"\u0000").await;
    publish(&nats, 3..=30).await;
    let mut client = client.resume_at(&server).await;
    assert_eq!(client.next_source().await, r"\u0000");
    expect(&mut client, 3..=30).await;
}

#[sqlx::test(migrations = false)]
async fn a_client_that_disconnects_during_a_backfill_continues_there(pool: PgPool) {
    let (nats, server, client) = start(&pool, small_ring()).await;
    publish(&nats, 2..=60).await;
    let mut client = client.resume_at(&server).await;
    expect(&mut client, 2..=20).await;
    let mut client = client.resume_at(&server).await;
    expect(&mut client, 21..=60).await;
}

#[sqlx::test(migrations = false)]
async fn a_new_instance_resumes_cursors_older_than_what_nats_retains(pool: PgPool) {
    let (nats, old, client) = start(&pool, small_ring()).await;
    publish(&nats, 2..=30).await;
    wait_until_stored(&pool, 30).await;
    drop(old);
    nats.purge("MESSAGES").await;
    publish(&nats, 31..=40).await;
    let new = Server::with_inbox(&nats, small_ring(), &pool).await;
    let mut client = client.resume_at(&new).await;
    expect(&mut client, 2..=40).await;
}

#[sqlx::test(migrations = false)]
async fn a_cursor_before_a_gap_in_the_inbox_is_not_resumed(pool: PgPool) {
    let (nats, old, client) = start(&pool, small_ring()).await;
    wait_until_stored(&pool, 1).await;
    drop(old);
    // NATS loses these messages while no instance runs to store them.
    publish(&nats, 2..=5).await;
    nats.purge("MESSAGES").await;
    publish(&nats, 6..=20).await;
    let new = Server::with_inbox(&nats, small_ring(), &pool).await;
    wait_until_stored(&pool, 20).await;
    let mut client = client.reload_at(&new).await;
    publish(&nats, [21]).await;
    expect(&mut client, [21]).await;
}

#[sqlx::test(migrations = false)]
async fn one_of_two_instances_writes_the_inbox_and_the_other_takes_over(pool: PgPool) {
    let (nats, first, client) = start(&pool, small_ring()).await;
    let second = Server::with_inbox(&nats, small_ring(), &pool).await;
    publish(&nats, 2..=50).await;
    drop(first);
    publish(&nats, 51..=100).await;
    wait_until_stored(&pool, 100).await;
    let mut client = client.resume_at(&second).await;
    expect(&mut client, 2..=100).await;
    let stored: i64 = sqlx::query_scalar("select count(*) from inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 100);
}

#[sqlx::test(migrations = false)]
async fn after_an_outage_the_inbox_is_written_without_a_gap(pool: PgPool) {
    let (nats, server, client) = start(&pool, small_ring()).await;
    wait_until_stored(&pool, 1).await;
    sqlx::query("alter table inbox rename to inbox_away").execute(&pool).await.unwrap();
    publish(&nats, 2..=20).await;
    // Some attempts of the inbox writer fail.
    tokio::time::sleep(Duration::from_secs(2)).await;
    sqlx::query("alter table inbox_away rename to inbox").execute(&pool).await.unwrap();
    let mut client = client.resume_at(&server).await;
    expect(&mut client, 2..=20).await;
}

#[sqlx::test(migrations = false)]
async fn a_client_that_missed_too_many_events_reloads(pool: PgPool) {
    let (nats, server, client) = start(&pool, Retention { backfill_events_max: 20, ..small_ring() }).await;
    publish(&nats, 2..=60).await;
    let mut client = client.reload_at(&server).await;
    publish(&nats, [61]).await;
    expect(&mut client, [61]).await;
}

#[sqlx::test(migrations = false)]
async fn without_the_database_events_are_delivered_and_only_old_cursors_are_not_resumed(pool: PgPool) {
    let retention = Retention { resume_timeout: Duration::from_millis(100), ..small_ring() };
    let (nats, server, client) = start(&pool, retention).await;
    pool.close().await;
    let mut other = server.anonymous().await;
    publish(&nats, 2..=20).await;
    expect(&mut other, 2..=20).await;
    let mut client = client.reload_at(&server).await;
    publish(&nats, [21]).await;
    expect(&mut client, [21]).await;
    expect(&mut other, [21]).await;
    // The ring buffer still holds what this client missed.
    let mut client = client.resume_at(&server).await;
    publish(&nats, [22]).await;
    expect(&mut client, [22]).await;
}

#[sqlx::test(migrations = false)]
async fn a_backfill_holds_a_version_of_two_streams_once_and_not_if_the_client_has_received_it(pool: PgPool) {
    let (nats, server, early) = start(&pool, small_ring()).await;
    let mut late = server.anonymous().await;
    nats.publish("monolith", "message_changed", message(2, "2")).await;
    expect(&mut late, [2]).await;
    // The other stream gets the same version a moment later.
    publish(&nats, 2..=60).await;
    for (client, first) in [(early, 2), (late, 3)] {
        let mut client = client.resume_at(&server).await;
        expect(&mut client, first..=60).await;
    }
}
