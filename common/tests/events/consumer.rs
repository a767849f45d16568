//! What arrives is stored once, processed in order, and a failure concerns its entity alone.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::ExponentialBuilder;
use flack_api::events::Event;
use flack_common::events::{Consumer, Events, Handler, StoredEvent};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    nats::Nats,
    things::{ThingsEvent, database, insert, relay, rename, replay_all, scalar, wait_for},
};

/// Writes each name that it hears of into a log, and refuses `poison`.
struct Names;

#[async_trait]
impl Handler for Names {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<()> {
        let Event { union: ThingsEvent::ThingChanged(thing), .. } = event.decode()?;
        sqlx::query("insert into heard (thing_id, name) values ($1, $2)")
            .bind(thing.id)
            .bind(&thing.name)
            .execute(&mut **transaction)
            .await?;
        anyhow::ensure!(thing.name != "poison", "cannot stand this");
        assert!(thing.name != "panic", "a defect");
        Ok(())
    }
}

/// The reader's tables are in the same database here; that changes nothing for the pipeline.
async fn databases(pool: &PgPool) {
    database(pool).await;
    sqlx::query("create table heard (id bigint generated always as identity, thing_id bigint, name text)")
        .execute(pool)
        .await
        .unwrap();
}

fn consume(pool: &PgPool, events: &Events) -> JoinHandle<()> {
    let retries = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(50))
        .with_max_times(2);
    let consumer = Consumer::new("things", pool.clone(), events.clone(), Arc::new(Names)).retries(retries);
    tokio::spawn(consumer.run(CancellationToken::new()))
}

async fn heard(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select name from heard order by id").fetch_all(pool).await.unwrap()
}

async fn wait_until_heard(pool: &PgPool, names: &[&str]) {
    wait_for(&format!("{names:?} are heard"), async || heard(pool).await == names).await;
}

#[sqlx::test(migrations = false)]
async fn a_consumer_waits_for_a_stream_that_is_not_there_yet(pool: PgPool) {
    databases(&pool).await;
    let mut nats = Nats::planned();
    let events = nats.events().await;
    consume(&pool, &events);
    nats.up().await;
    insert(&pool, "one").await;
    relay(&pool, &events);
    wait_until_heard(&pool, &["one"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_poison_event_becomes_a_dead_letter_and_stops_no_other_entity(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    let sick = insert(&pool, "poison").await;
    rename(&pool, sick, "cured").await;
    insert(&pool, "well").await;
    insert(&pool, "panic").await;
    relay(&pool, &events);
    consume(&pool, &events);

    // The well one at once; the cured one only behind the dead letter, because order is kept.
    wait_until_heard(&pool, &["well", "cured"]).await;
    let dead = "select count(*) from inbox where state = 'dead' and attempts = 3";
    wait_for("two dead letters", async || scalar::<i64>(&pool, dead).await == 2).await;
    let errors: Vec<String> = sqlx::query_scalar("select error from inbox where state = 'dead' order by id")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(errors, ["cannot stand this", "the handler panicked; the log has the location"]);
}

#[sqlx::test(migrations = false)]
async fn a_requeued_dead_letter_is_tried_again_but_not_over_something_newer(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    let sick = insert(&pool, "poison").await;
    rename(&pool, sick, "cured").await;
    relay(&pool, &events);
    consume(&pool, &events);
    wait_until_heard(&pool, &["cured"]).await;
    sqlx::query(
        "update inbox set state = 'waiting', attempts = 0, next_attempt_at = now() where state = 'dead'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let ignored = "select count(*) from inbox where state = 'ignored'";
    wait_for("it is old news", async || scalar::<i64>(&pool, ignored).await == 1).await;
    assert_eq!(heard(&pool).await, ["cured"]);
}

#[sqlx::test(migrations = false)]
async fn replaying_changes_nothing_but_rebuilds_a_copy_that_was_cleared(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    let id = insert(&pool, "old").await;
    rename(&pool, id, "new").await;
    wait_until_heard(&pool, &["old", "new"]).await;

    for round in 1..=2 {
        assert_eq!(replay_all(&pool).await, 2);
        let ignored = "select count(*) from inbox where state = 'ignored'";
        wait_for("the replay is ignored", async || scalar::<i64>(&pool, ignored).await == 2 * round).await;
    }
    assert_eq!(heard(&pool).await, ["old", "new"]);

    sqlx::raw_sql("delete from heard; delete from inbox_entity").execute(&pool).await.unwrap();
    replay_all(&pool).await;
    wait_until_heard(&pool, &["old", "new"]).await;
}

#[sqlx::test(migrations = false)]
async fn an_event_that_is_older_than_what_is_held_is_ignored(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    let id = insert(&pool, "old").await;
    rename(&pool, id, "new").await;
    wait_until_heard(&pool, &["old", "new"]).await;
    // The first event once more, as a relay would that was frozen for longer than the stream remembers.
    sqlx::query(
        "insert into journal_queue (journal_id, recorded_at, replay) select id, recorded_at, true from journal order by id limit 1",
    )
    .execute(&pool)
    .await
    .unwrap();
    let ignored = "select count(*) from inbox where state = 'ignored'";
    wait_for("it is ignored", async || scalar::<i64>(&pool, ignored).await == 1).await;
    assert_eq!(heard(&pool).await, ["old", "new"]);
}

#[sqlx::test(migrations = false)]
async fn of_two_consumers_one_works_and_the_other_goes_on_where_it_died(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let first = consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_heard(&pool, &["one"]).await;
    consume(&pool, &nats.events().await);
    insert(&pool, "two").await;
    wait_until_heard(&pool, &["one", "two"]).await;
    first.abort();
    insert(&pool, "three").await;
    wait_until_heard(&pool, &["one", "two", "three"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_consumer_goes_on_exactly_where_it_ended_when_nats_was_restarted_and_when_it_lost_its_disk(
    pool: PgPool,
) {
    databases(&pool).await;
    let mut nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_heard(&pool, &["one"]).await;
    nats.kill();
    nats.up().await;
    insert(&pool, "two").await;
    wait_until_heard(&pool, &["one", "two"]).await;
    nats.kill();
    nats.forget_everything();
    nats.up().await;
    insert(&pool, "three").await;
    wait_until_heard(&pool, &["one", "two", "three"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_stream_is_known_again_after_every_restart_of_nats(pool: PgPool) {
    databases(&pool).await;
    let mut nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "0").await;
    wait_until_heard(&pool, &["0"]).await;
    let incarnation = "select incarnation from inbox_offset";
    let first: String = scalar(&pool, incarnation).await;
    let mut heard = vec!["0"];
    // nats-server 2.9 forgets at the second restart when a stream was made.
    for name in ["1", "2", "3"] {
        nats.kill();
        nats.up().await;
        insert(&pool, name).await;
        heard.push(name);
        wait_until_heard(&pool, &heard).await;
        assert_eq!(scalar::<String>(&pool, incarnation).await, first, "after restart {name}");
    }
}

#[sqlx::test(migrations = false)]
async fn what_is_no_event_is_kept_as_a_dead_letter(pool: PgPool) {
    databases(&pool).await;
    let nats = Nats::start().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_heard(&pool, &["one"]).await;
    events.signal("flack.things.thing_changed.7", "no JSON at all".into()).await;
    let dead =
        "select count(*) from inbox where state = 'dead' and error like 'not an event%' and entity_id = '7'";
    wait_for("it is a dead letter", async || scalar::<i64>(&pool, dead).await == 1).await;
    insert(&pool, "two").await;
    wait_until_heard(&pool, &["one", "two"]).await;
}
