//! The consumer stores each event once and processes it in order; a failure affects its entity only.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::ExponentialBuilder;
use flack_api::events::Event;
use flack_common::events::{Consumer, Events, Handler, InProcess, Relay, StoredEvent};
use flack_testing::eventually_within;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    nats::{start_nats, stopped_nats},
    things::{ThingsEvent, WAIT_MAX, database, insert, map, relay, rename, replay_all, scalar},
};

/// Writes each name into the table `received`, and fails for `poison`.
struct Names;

#[async_trait]
impl Handler for Names {
    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
        let Event { union: ThingsEvent::ThingChanged(thing), .. } = event.decode()?;
        sqlx::query("insert into received (thing_id, name) values ($1, $2)")
            .bind(thing.id)
            .bind(&thing.name)
            .execute(&mut **transaction)
            .await?;
        anyhow::ensure!(thing.name != "poison", "poison is refused");
        assert!(thing.name != "panic", "a defect");
        Ok(())
    }
}

/// The consumer's tables are in the owner's database here, which makes no difference to events.
async fn databases(pool: &PgPool) {
    database(pool).await;
    sqlx::query("create table received (id bigint generated always as identity, thing_id bigint, name text)")
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

async fn received(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select name from received order by id").fetch_all(pool).await.unwrap()
}

async fn wait_until_received(pool: &PgPool, names: &[&str]) {
    eventually_within(WAIT_MAX, &format!("{names:?} to be received"), async || received(pool).await == names).await;
}

#[sqlx::test(migrations = false)]
async fn a_consumer_waits_for_a_stream_that_does_not_exist_yet(pool: PgPool) {
    databases(&pool).await;
    let mut nats = stopped_nats().await;
    let events = nats.events().await;
    consume(&pool, &events);
    nats.start_again().await;
    insert(&pool, "one").await;
    relay(&pool, &events);
    wait_until_received(&pool, &["one"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_failing_event_becomes_a_dead_letter_and_does_not_block_other_entities(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    let sick = insert(&pool, "poison").await;
    rename(&pool, sick, "cured").await;
    insert(&pool, "well").await;
    insert(&pool, "panic").await;
    relay(&pool, &events);
    consume(&pool, &events);

    // "well" at once; "cured" after the dead letter of its entity, because events of an entity keep their order.
    wait_until_received(&pool, &["well", "cured"]).await;
    let dead = "select count(*) from inbox where state = 'dead' and attempts = 3";
    eventually_within(WAIT_MAX, "two dead letters", async || scalar::<i64>(&pool, dead).await == 2).await;
    let errors: Vec<String> =
        sqlx::query_scalar("select error from inbox where state = 'dead' order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(errors, ["poison is refused", "the handler panicked; the log has the location"]);
}

#[sqlx::test(migrations = false)]
async fn a_requeued_dead_letter_is_ignored_when_a_newer_event_was_processed(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    let sick = insert(&pool, "poison").await;
    rename(&pool, sick, "cured").await;
    relay(&pool, &events);
    consume(&pool, &events);
    wait_until_received(&pool, &["cured"]).await;
    sqlx::query("update inbox set state = 'waiting', attempts = 0, next_attempt_at = now() where state = 'dead'")
        .execute(&pool)
        .await
        .unwrap();
    let ignored = "select count(*) from inbox where state = 'ignored'";
    eventually_within(WAIT_MAX, "the dead letter to be ignored", async || scalar::<i64>(&pool, ignored).await == 1)
        .await;
    assert_eq!(received(&pool).await, ["cured"]);
}

#[sqlx::test(migrations = false)]
async fn a_replay_is_ignored_unless_the_projection_was_cleared(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    let id = insert(&pool, "old").await;
    rename(&pool, id, "new").await;
    wait_until_received(&pool, &["old", "new"]).await;

    for round in 1..=2 {
        assert_eq!(replay_all(&pool).await, 2);
        let ignored = "select count(*) from inbox where state = 'ignored'";
        eventually_within(WAIT_MAX, "the replay to be ignored", async || {
            scalar::<i64>(&pool, ignored).await == 2 * round
        })
        .await;
    }
    assert_eq!(received(&pool).await, ["old", "new"]);

    sqlx::raw_sql("delete from received; delete from inbox_entity").execute(&pool).await.unwrap();
    replay_all(&pool).await;
    wait_until_received(&pool, &["old", "new"]).await;
}

#[sqlx::test(migrations = false)]
async fn an_event_older_than_the_last_processed_one_is_ignored(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    let id = insert(&pool, "old").await;
    rename(&pool, id, "new").await;
    wait_until_received(&pool, &["old", "new"]).await;
    // The first event again, as from a relay that was frozen for longer than the duplicate window.
    sqlx::query(
        "insert into journal_queue (journal_id, recorded_at, replay)
        select id, recorded_at, true from journal order by id limit 1",
    )
    .execute(&pool)
    .await
    .unwrap();
    let ignored = "select count(*) from inbox where state = 'ignored'";
    eventually_within(WAIT_MAX, "it to be ignored", async || scalar::<i64>(&pool, ignored).await == 1).await;
    assert_eq!(received(&pool).await, ["old", "new"]);
}

#[sqlx::test(migrations = false)]
async fn an_event_of_a_former_owner_is_ignored_after_one_of_the_present_owner(pool: PgPool) {
    databases(&pool).await;
    sqlx::query("select attach_part('things', '{thing}')").execute(&pool).await.unwrap();
    // Two owners of one part, one after the other, with a stream each. Here they share the journal.
    let bus = |owner| Events::InProcess(InProcess::new(owner));
    let (former, present) = (bus("former"), bus("things"));
    consume(&pool, &present);
    tokio::spawn(Consumer::new("former", pool.clone(), former.clone(), Arc::new(Names)).run(CancellationToken::new()));
    let publish = |owner, events: &Events| {
        tokio::spawn(Relay::new(owner, pool.clone(), events.clone(), map).run(CancellationToken::new()))
    };
    let relay = publish("former", &former);
    let id = insert(&pool, "old").await;
    wait_until_received(&pool, &["old"]).await;
    relay.abort();

    sqlx::query("update ownership set epoch = 2").execute(&pool).await.unwrap();
    rename(&pool, id, "new").await;
    let relay = publish("things", &present);
    wait_until_received(&pool, &["old", "new"]).await;
    relay.abort();

    // A late event of the former owner, whose journal id may be any.
    sqlx::query("update thing set name = 'late' where id = $1").bind(id).execute(&pool).await.unwrap();
    sqlx::query("update journal set epoch = 0 where row_data ->> 'name' = 'late'").execute(&pool).await.unwrap();
    publish("former", &former);
    let ignored = "select count(*) from inbox where state = 'ignored' and stream = 'FORMER'";
    eventually_within(WAIT_MAX, "it to be ignored", async || scalar::<i64>(&pool, ignored).await == 1).await;
    assert_eq!(received(&pool).await, ["old", "new"]);
}

#[sqlx::test(migrations = false)]
async fn a_standby_consumer_continues_where_the_leader_stopped(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let first = consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_received(&pool, &["one"]).await;
    consume(&pool, &nats.events().await);
    insert(&pool, "two").await;
    wait_until_received(&pool, &["one", "two"]).await;
    first.abort();
    insert(&pool, "three").await;
    wait_until_received(&pool, &["one", "two", "three"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_consumer_continues_at_its_offset_after_a_restart_of_nats_and_after_the_loss_of_its_disk(pool: PgPool) {
    databases(&pool).await;
    let mut nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_received(&pool, &["one"]).await;
    nats.kill();
    nats.start_again().await;
    insert(&pool, "two").await;
    wait_until_received(&pool, &["one", "two"]).await;
    nats.kill_and_lose_data();
    nats.start_again().await;
    insert(&pool, "three").await;
    wait_until_received(&pool, &["one", "two", "three"]).await;
}

#[sqlx::test(migrations = false)]
async fn a_stream_keeps_its_incarnation_across_restarts_of_nats(pool: PgPool) {
    databases(&pool).await;
    let mut nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "0").await;
    wait_until_received(&pool, &["0"]).await;
    let incarnation = "select incarnation from inbox_offset";
    let first: String = scalar(&pool, incarnation).await;
    let mut received = vec!["0"];
    // nats-server 2.9 loses a stream's creation time at the second restart.
    for name in ["1", "2", "3"] {
        nats.kill();
        nats.start_again().await;
        insert(&pool, name).await;
        received.push(name);
        wait_until_received(&pool, &received).await;
        assert_eq!(scalar::<String>(&pool, incarnation).await, first, "after restart {name}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_message_that_is_not_an_event_becomes_a_dead_letter(pool: PgPool) {
    databases(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    consume(&pool, &events);
    insert(&pool, "one").await;
    wait_until_received(&pool, &["one"]).await;
    events.signal("flack.things.thing_changed.7", "no JSON at all".into()).await;
    let dead = "select count(*) from inbox where state = 'dead' and error like 'not an event%' and entity_id = '7'";
    eventually_within(WAIT_MAX, "the dead letter", async || scalar::<i64>(&pool, dead).await == 1).await;
    insert(&pool, "two").await;
    wait_until_received(&pool, &["one", "two"]).await;
}
