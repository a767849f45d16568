//! Events in tests: what a part publishes, and a stand-in for the users part that publishes to the part under test.

use chrono::{DateTime, Utc};
use flack_api::events::{UserModel, UsersEvent};
use flack_common::events::{Events, InProcess, JournalRow, MappedEvent, Received, Relay, StartOffset};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::WAIT_MAX;

/// Publishes the journal of `service` and returns the first `count` events with their subjects.
pub async fn published(
    service: &'static str,
    pool: &PgPool,
    map: fn(&JournalRow) -> anyhow::Result<Option<MappedEvent>>,
    count: usize,
) -> Vec<(String, Value)> {
    let events = Events::InProcess(InProcess::new(service));
    let mut subscription = events.subscribe(service, None, StartOffset::Earliest);
    let stopping = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(service, pool.clone(), events, map).run(stopping.clone()));
    let mut published = Vec::new();
    while published.len() < count {
        if let Received::Message(message) = timeout(WAIT_MAX, subscription.next()).await.expect("an event") {
            let event = serde_json::from_slice(&message.payload).expect("JSON");
            published.push((message.subject.clone(), event));
        }
    }
    stopping.cancel();
    relay.await.expect("the relay ends");
    published
}

/// A journaled table `users` in the database of another part, whose changes are published as the users part does it.
#[derive(Debug)]
pub struct UsersStandIn {
    /// Carries the stream USERS.
    pub events: Events,
    /// Cancelled when the value is dropped.
    pub stopping: CancellationToken,
    _stop: DropGuard,
}

impl UsersStandIn {
    pub async fn start(pool: &PgPool) -> Self {
        for statement in [
            "create table users (
                 id bigint primary key, nickname text not null default 'ada',
                 password_changed_at timestamptz not null default now(), online boolean not null default true,
                 version bigint not null default 1
             )",
            "select attach_journal('users', 'user')",
        ] {
            sqlx::query(statement).execute(pool).await.expect("a journaled table");
        }
        let events = Events::InProcess(InProcess::new("users"));
        let stopping = CancellationToken::new();
        tokio::spawn(Relay::new("users", pool.clone(), events.clone(), map).run(stopping.clone()));
        Self { events, _stop: stopping.clone().drop_guard(), stopping }
    }
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    nickname: String,
    password_changed_at: DateTime<Utc>,
    online: bool,
}

fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    if row.entity != "user" {
        return Ok(None);
    }
    let Row { id, nickname, password_changed_at, online } = row.decode()?;
    let user = UserModel {
        id,
        created_at: 1,
        updated_at: 1,
        last_seen_at: 1,
        // Rounded up, so that it is later than every token of before.
        password_changed_at: password_changed_at.timestamp_millis() + 1,
        nickname,
        online,
        display_name: None,
        about: None,
        hue: None,
    };
    MappedEvent::new(row, &UsersEvent::UserChanged(user)).map(Some)
}
