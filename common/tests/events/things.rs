//! A service with one table, `thing`, and functions that the tests share.

use std::time::Duration;

use flack_api::events::Event;
use flack_common::{
    database,
    events::{Events, JournalRow, MappedEvent, Received, Relay, StartOffset, Subscription},
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, migrate::Migrator};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// The limit of each wait; long, for a busy machine.
pub const WAIT_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub id: i64,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum ThingsEvent {
    ThingChanged(Thing),
}

pub async fn database(pool: &PgPool) {
    let own = Migrator::with_migrations(Vec::new());
    database::migrate(pool, &own).await.expect("the shared migrations apply");
    sqlx::raw_sql(
        "create table thing (
            id bigint generated always as identity primary key,
            name text not null,
            secret text not null default 'hidden',
            version bigint not null default 1
        );
        select attach_journal('thing', 'thing', omit => '{secret}');",
    )
    .execute(pool)
    .await
    .expect("the table is journaled");
}

pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let thing: Thing = row.decode()?;
    anyhow::ensure!(thing.name != "unmappable", "no event for this one");
    assert!(thing.name != "panics", "a defect");
    if thing.name == "private" {
        return Ok(None);
    }
    MappedEvent::new(row, &ThingsEvent::ThingChanged(thing)).map(Some)
}

/// Starts a relay in a task; an abort ends it as a kill ends a process.
pub fn relay(pool: &PgPool, events: &Events) -> JoinHandle<()> {
    tokio::spawn(Relay::new("things", pool.clone(), events.clone(), map).run(CancellationToken::new()))
}

pub async fn insert(pool: &PgPool, name: &str) -> i64 {
    sqlx::query_scalar("insert into thing (name) values ($1) returning id")
        .bind(name)
        .fetch_one(pool)
        .await
        .expect("writes work")
}

pub async fn rename(pool: &PgPool, id: i64, name: &str) {
    sqlx::query("update thing set name = $2 where id = $1")
        .bind(id)
        .bind(name)
        .execute(pool)
        .await
        .expect("writes work");
}

pub async fn queue_length(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from journal_queue where failed_at is null")
        .fetch_one(pool)
        .await
        .expect("reads work")
}

pub async fn scalar<T>(pool: &PgPool, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("reads work")
}

/// Queues all rows of the journal again; returns their number.
pub async fn replay_all(pool: &PgPool) -> i64 {
    scalar(pool, "select queued from replay_portion(null, null, null, null, null, null, 10000)").await
}

pub fn read(events: &Events) -> Subscription {
    events.subscribe("things", None, StartOffset::Earliest)
}

/// Waits for the next event.
pub async fn next(subscription: &mut Subscription) -> Event<ThingsEvent> {
    timeout(WAIT_MAX, async {
        loop {
            if let Received::Message(message) = subscription.next().await {
                break serde_json::from_slice(&message.payload).expect("an event");
            }
        }
    })
    .await
    .expect("an event arrives")
}

pub async fn next_name(subscription: &mut Subscription) -> String {
    let ThingsEvent::ThingChanged(thing) = next(subscription).await.union;
    thing.name
}
