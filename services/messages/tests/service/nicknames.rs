//! The copy of nicknames: made from events, never from a call.

use std::sync::Arc;

use crate::support::{ADA, Service};
use flack_api::events::{UserModel, UsersEvent};
use flack_common::events::{Consumer, Events, InProcess, JournalRow, MappedEvent, Relay};
use flack_messages::nicknames::Nicknames;
use serde::Deserialize;
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A stand-in for users: a journaled table, whose relay tells the same events as theirs does.
struct Users;

#[derive(Deserialize)]
struct UserRow {
    id: i64,
    nickname: String,
}

impl Users {
    /// Until the guard is dropped.
    async fn start(service: &Service) -> DropGuard {
        service.execute("create table users (id bigint primary key, nickname text not null, version bigint not null default 1)").await;
        service.execute("select attach_journal('users', 'user')").await;
        let events = Events::InProcess(InProcess::new("users"));
        let stopping = CancellationToken::new();
        let relay = Relay::new("users", service.pool.clone(), events.clone(), map);
        tokio::spawn(relay.run(stopping.clone()));
        let consumer =
            Consumer::new("users", service.pool.clone(), events, Arc::new(Nicknames)).only("user_changed");
        tokio::spawn(consumer.run(stopping.clone()));
        stopping.drop_guard()
    }
}

fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    if row.entity != "user" {
        return Ok(None);
    }
    let UserRow { id, nickname } = row.decode()?;
    let user = UserModel {
        id,
        nickname,
        created_at: 0,
        updated_at: 0,
        last_seen_at: 0,
        password_changed_at: 0,
        online: true,
    };
    MappedEvent::new(row, &UsersEvent::UserChanged(user)).map(Some)
}

const LISTED: &str = "select string_agg(nickname || ' ' || version, ', ' order by user_id) from nicknames";

#[sqlx::test(migrations = false)]
async fn who_registers_renames_or_leaves_is_known_here_by_events_alone(pool: PgPool) {
    let service = Service::start(pool).await;
    let _users = Users::start(&service).await;
    service.execute("insert into users values (1, 'ada'), (2, 'bob')").await;
    service.wait_for_row("two nicknames", LISTED, "ada 1, bob 1").await;
    service.execute("update users set nickname = 'ada lovelace' where id = 1").await;
    service.wait_for_row("a new nickname", LISTED, "ada lovelace 2, bob 1").await;

    service.post(ADA, "hello").await;
    let list = service.get("/api/messages?include=nickname", http::StatusCode::OK).await;
    assert_eq!(list["messages"][0]["nickname"], "ada lovelace");

    service.execute("delete from users where id = 2").await;
    service.wait_for_row("one nickname", LISTED, "ada lovelace 2").await;
}

#[sqlx::test(migrations = false)]
async fn what_is_known_already_is_not_replaced_by_something_older(pool: PgPool) {
    let service = Service::start(pool).await;
    service.execute("insert into nicknames values (1, 'ada', 7)").await;
    let _users = Users::start(&service).await;
    service.execute("insert into users values (1, 'old ada'), (2, 'bob')").await;
    service.wait_for_row("bob, who comes after her", LISTED, "ada 7, bob 1").await;
}
