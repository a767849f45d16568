//! The relay loses and duplicates no event, whichever process is killed.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use flack_common::events::{JournalRow, MappedEvent, Relay};
use flack_testing::eventually_within;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    nats::{count, events_at, forget_message_ids, start_nats, stopped_nats},
    things::{WAIT_MAX, database, insert, map, next, next_name, queue_length, read, relay, rename, replay_all, scalar},
};

#[sqlx::test(migrations = false)]
async fn a_committed_change_is_published_once_and_a_rolled_back_one_never(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);

    let mut rolled_back = pool.begin().await.unwrap();
    sqlx::query("insert into thing (name) values ('never')").execute(&mut *rolled_back).await.unwrap();
    rolled_back.rollback().await.unwrap();
    let id = insert(&pool, "committed").await;

    let event = next(&mut read(&events)).await;
    assert_eq!(event.id, format!("things-{}", scalar::<i64>(&pool, "select max(id) from journal").await));
    assert_eq!((event.operation, event.version), (flack_api::events::Operation::Insert, 1));
    assert_eq!(serde_json::to_value(event.union).unwrap()["data"]["id"], id);
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    assert_eq!(count(&nats, "THINGS").await, 1);
}

#[sqlx::test(migrations = false)]
async fn changes_of_an_entity_are_published_in_order(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    let id = insert(&pool, "0").await;
    for number in 1..600 {
        rename(&pool, id, &number.to_string()).await;
    }
    relay(&pool, &events);
    let mut subscription = read(&events);
    for number in 0..600 {
        assert_eq!(next_name(&mut subscription).await, number.to_string());
    }
}

#[sqlx::test(migrations = false)]
async fn a_relay_killed_between_publishing_and_deleting_publishes_no_duplicate(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    // Every delete fails, as if the relay were killed before it.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'killed here'; end $$;
        create trigger refuse before delete on journal_queue for each row execute function refuse();",
    )
    .execute(&pool)
    .await
    .unwrap();
    insert(&pool, "once").await;
    insert(&pool, "twice").await;
    let killed = relay(&pool, &events);
    eventually_within(WAIT_MAX, "both to be published", async || count(&nats, "THINGS").await == 2).await;
    assert_eq!(queue_length(&pool).await, 2);
    killed.abort();

    sqlx::query("drop trigger refuse on journal_queue").execute(&pool).await.unwrap();
    insert(&pool, "later").await;
    relay(&pool, &events);
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    assert_eq!(count(&nats, "THINGS").await, 3);
}

#[sqlx::test(migrations = false)]
async fn a_row_with_a_lower_id_that_commits_later_is_published(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let mut subscription = read(&events);

    let mut slow = pool.begin().await.unwrap();
    sqlx::query("insert into thing (name) values ('first to write')").execute(&mut *slow).await.unwrap();
    insert(&pool, "first to commit").await;
    assert_eq!(next_name(&mut subscription).await, "first to commit");
    eventually_within(WAIT_MAX, "the queue to look empty", async || queue_length(&pool).await == 0).await;
    slow.commit().await.unwrap();
    assert_eq!(next_name(&mut subscription).await, "first to write");
}

#[sqlx::test(migrations = false)]
async fn writes_during_a_nats_outage_are_published_in_order_afterwards(pool: PgPool) {
    database(&pool).await;
    let mut nats = stopped_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let id = insert(&pool, "0").await;
    nats.start_again().await;
    let mut subscription = read(&events);
    assert_eq!(next_name(&mut subscription).await, "0");
    nats.kill();
    for number in 1..300 {
        rename(&pool, id, &number.to_string()).await;
    }
    assert!(queue_length(&pool).await > 0);
    nats.start_again().await;
    for number in 1..300 {
        assert_eq!(next_name(&mut subscription).await, number.to_string());
    }
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    assert_eq!(count(&nats, "THINGS").await, 300);
}

#[sqlx::test(migrations = false)]
async fn a_full_queue_refuses_writes_with_503_until_nats_is_available_and_replays_do_not_fill_it(pool: PgPool) {
    database(&pool).await;
    sqlx::raw_sql(
        "create or replace function journal_queue_rows_max() returns bigint
        language sql immutable as 'select 20::bigint'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut nats = stopped_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    // A failed row does not count.
    insert(&pool, "unmappable").await;
    sqlx::query("update journal_queue set failed_at = now()").execute(&pool).await.unwrap();
    for _ in 0..20 {
        insert(&pool, "waits").await;
    }
    let refused = sqlx::query("insert into thing (name) values ('too many')").execute(&pool).await.unwrap_err();
    let problem = flack_api::Problem::from(flack_common::database::StoreError::from(refused));
    assert_eq!((problem.status, problem.retry_after_seconds.is_some()), (503, true));
    assert!(problem.detail.contains("events pipeline"), "{}", problem.detail);
    assert_eq!(queue_length(&pool).await, 20, "the refused write has no row in the queue");

    nats.start_again().await;
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    insert(&pool, "accepted again").await;
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    nats.kill();
    replay_all(&pool).await;
    assert!(queue_length(&pool).await > 20);
    insert(&pool, "during a replay").await;
}

#[sqlx::test(migrations = false)]
async fn repeated_kills_of_nats_lose_and_duplicate_no_event(pool: PgPool) {
    database(&pool).await;
    let mut nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let mut subscription = read(&events);
    let id = insert(&pool, "0").await;
    let writer = tokio::spawn({
        let pool = pool.clone();
        async move {
            for number in 1..1500 {
                rename(&pool, id, &number.to_string()).await;
            }
        }
    });
    for _ in 0..3 {
        let before = count(&nats, "THINGS").await;
        eventually_within(WAIT_MAX, "some to be published", async || {
            count(&nats, "THINGS").await > before || writer.is_finished()
        })
        .await;
        nats.kill();
        nats.start_again().await;
    }
    writer.await.unwrap();
    for number in 0..1500 {
        assert_eq!(next_name(&mut subscription).await, number.to_string());
    }
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    assert_eq!(count(&nats, "THINGS").await, 1500);
}

#[sqlx::test(migrations = false)]
async fn a_standby_relay_continues_when_the_leader_is_killed(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    let first = relay(&pool, &events);
    let mut subscription = read(&events);
    insert(&pool, "by the first").await;
    assert_eq!(next_name(&mut subscription).await, "by the first");
    let _second = relay(&pool, &nats.events().await);
    insert(&pool, "still by the first").await;
    assert_eq!(next_name(&mut subscription).await, "still by the first");
    first.abort();
    insert(&pool, "by the second").await;
    assert_eq!(next_name(&mut subscription).await, "by the second");
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    assert_eq!(count(&nats, "THINGS").await, 3);
}

/// Like `map`, but blocks its thread at the first row of this name, as a process does that is stopped by SIGSTOP.
#[expect(clippy::disallowed_methods, reason = "the whole thread has to be blocked")]
fn map_that_freezes(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    if row.row_data["name"] == "freeze" && !IS_FROZEN.swap(true, SeqCst) {
        while !CONTINUE.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    map(row)
}
static IS_FROZEN: AtomicBool = AtomicBool::new(false);
static CONTINUE: AtomicBool = AtomicBool::new(false);

#[sqlx::test(migrations = false)]
async fn a_frozen_relay_is_replaced_and_publishes_nothing_when_it_continues(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let options = PgConnectOptions::clone(&pool.connect_options()).application_name("frozen");
    let (address, stopping) = (nats.url(), CancellationToken::new());
    // In a thread with its own runtime, like another process.
    let stopped = std::thread::spawn({
        let stopping = stopping.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pool = PgPool::connect_lazy_with(options);
                Relay::new("things", pool, events_at(address).await, map_that_freezes).run(stopping).await;
            });
        }
    });
    let mut subscription = read(&nats.events().await);
    insert(&pool, "published by the first").await;
    assert_eq!(next_name(&mut subscription).await, "published by the first");
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    insert(&pool, "freeze").await;
    eventually_within(WAIT_MAX, "it to be frozen", async || IS_FROZEN.load(SeqCst)).await;

    relay(&pool, &nats.events().await);
    assert_eq!(next_name(&mut subscription).await, "freeze");
    insert(&pool, "published by the second").await;
    assert_eq!(next_name(&mut subscription).await, "published by the second");
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    // As if it had been frozen for longer than the duplicate window.
    forget_message_ids(&nats, "THINGS").await;
    CONTINUE.store(true, SeqCst);
    eventually_within(WAIT_MAX, "it to be a standby", async || {
        scalar::<i64>(
            &pool,
            "select count(*) from pg_stat_activity
            where datname = current_database() and application_name = 'frozen' and query like '%advisory%'",
        )
        .await
            == 1
    })
    .await;
    assert_eq!(count(&nats, "THINGS").await, 3);
    stopping.cancel();
    stopped.join().unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_relay_continues_after_its_database_connections_were_terminated(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let mut subscription = read(&events);
    insert(&pool, "before").await;
    assert_eq!(next_name(&mut subscription).await, "before");
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&pool)
    .await
    .unwrap();
    eventually_within(WAIT_MAX, "writes work", async || {
        sqlx::query("insert into thing (name) values ('after')").execute(&pool).await.is_ok()
    })
    .await;
    assert_eq!(next_name(&mut subscription).await, "after");
}

#[sqlx::test(migrations = false)]
async fn a_row_that_cannot_be_mapped_is_marked_as_failed_and_the_others_are_published(pool: PgPool) {
    database(&pool).await;
    let nats = start_nats().await;
    let events = nats.events().await;
    for name in ["before", "unmappable", "panics", "private", "after"] {
        insert(&pool, name).await;
    }
    relay(&pool, &events);
    let mut subscription = read(&events);
    assert_eq!(next_name(&mut subscription).await, "before");
    assert_eq!(next_name(&mut subscription).await, "after");
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    let failed: Vec<String> =
        sqlx::query_scalar("select error from journal_queue order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(failed.len(), 2);
    assert!(failed[0].contains("no event for this one"), "{}", failed[0]);
    assert!(failed[1].contains("panicked"), "{}", failed[1]);
}

#[sqlx::test(migrations = false)]
async fn a_subscription_continues_when_nats_has_lost_its_disk(pool: PgPool) {
    database(&pool).await;
    let mut nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let mut subscription = read(&events);
    for name in ["one", "two"] {
        insert(&pool, name).await;
        assert_eq!(next_name(&mut subscription).await, name);
    }
    eventually_within(WAIT_MAX, "the queue to be empty", async || queue_length(&pool).await == 0).await;
    nats.kill_and_lose_data();
    nats.start_again().await;
    insert(&pool, "three").await;
    for name in ["one", "two", "three"] {
        assert_eq!(next_name(&mut subscription).await, name, "the new stream has all events again");
    }
}

#[sqlx::test(migrations = false)]
async fn events_that_nats_has_lost_are_published_again_in_their_order(pool: PgPool) {
    database(&pool).await;
    let mut nats = start_nats().await;
    let events = nats.events().await;
    relay(&pool, &events);
    let published = async |count: i64| {
        eventually_within(WAIT_MAX, "the events are published", async || {
            queue_length(&pool).await == 0
                && scalar::<i64>(&pool, "select count(*) from journal_published").await == count
        })
        .await;
    };
    for name in ["one", "two"] {
        insert(&pool, name).await;
    }
    published(2).await;
    let copy = nats.kill_and_copy_data();
    nats.start_again().await;
    for name in ["three", "four"] {
        insert(&pool, name).await;
    }
    published(4).await;
    nats.kill_and_set_back(copy);
    insert(&pool, "five").await;
    nats.start_again().await;
    published(5).await;
    let mut subscription = read(&events);
    for name in ["one", "two", "three", "four", "five"] {
        assert_eq!(next_name(&mut subscription).await, name);
    }
    assert_eq!(count(&nats, "THINGS").await, 5);

    // Also without a new event, and when not all that is lost is recorded.
    sqlx::query("delete from journal_published where sequence = 4").execute(&pool).await.unwrap();
    nats.kill_and_lose_data();
    nats.start_again().await;
    eventually_within(WAIT_MAX, "the rest to be published", async || count(&nats, "THINGS").await == 4).await;
}
