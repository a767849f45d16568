//! The guarantees of the in-process bus.

use std::sync::Arc;

use async_trait::async_trait;
use flack_common::events::{Consumer, Events, Handler, InProcess, StoredEvent};
use flack_testing::eventually_within;
use sqlx::{PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use crate::things::{WAIT_MAX, database, insert, next_name, queue_length, read, relay, scalar};

/// Processes every event without an effect.
struct NoEffect;

#[async_trait]
impl Handler for NoEffect {
    fn kinds(&self) -> &'static [&'static str] {
        &["thing_changed"]
    }

    async fn handle(&self, _: &mut Transaction<'_, Postgres>, _: &StoredEvent) -> anyhow::Result<()> {
        Ok(())
    }
}

#[sqlx::test(migrations = false)]
async fn a_change_reaches_every_subscription_in_the_process(pool: PgPool) {
    database(&pool).await;
    let events = Events::InProcess(InProcess::new("things"));
    let (mut first, mut second) = (read(&events), read(&events));
    relay(&pool, &events);
    for name in ["one", "two"] {
        insert(&pool, name).await;
        assert_eq!(next_name(&mut first).await, name);
    }
    assert_eq!(next_name(&mut second).await, "one");
    assert_eq!(next_name(&mut second).await, "two");
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
}

#[sqlx::test(migrations = false)]
async fn a_row_stays_in_the_queue_until_the_consumer_in_the_process_has_stored_its_event(pool: PgPool) {
    database(&pool).await;
    let events = Events::InProcess(InProcess::new("things"));
    let consumer = Consumer::new("things", pool.clone(), events.clone(), Arc::new(NoEffect));
    tokio::spawn(consumer.run(CancellationToken::new()));
    let subscribed = "select count(*) from inbox_offset";
    eventually_within(WAIT_MAX, "the consumer to subscribe", async || scalar::<i64>(&pool, subscribed).await == 1)
        .await;
    // The inbox cannot be written for a while.
    sqlx::query("alter table inbox rename to inbox_away").execute(&pool).await.unwrap();
    relay(&pool, &events);
    insert(&pool, "one").await;
    let mut subscription = read(&events);
    assert_eq!(next_name(&mut subscription).await, "one");
    assert_eq!(queue_length(&pool).await, 1);
    sqlx::query("alter table inbox_away rename to inbox").execute(&pool).await.unwrap();
    eventually_within(WAIT_MAX, "the event to be processed", async || {
        scalar::<i64>(&pool, "select count(*) from inbox where state = 'done'").await == 1
    })
    .await;
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
}
