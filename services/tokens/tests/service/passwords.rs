//! A new password ends the tokens that were issued before it.

use std::sync::Arc;

use crate::support::{ADA, PASSWORD, Service, eventually};
use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use flack_api::events::{UserModel, UsersEvent};
use flack_common::{
    authority::Ownership,
    events::{Consumer, Events, InProcess, JournalRow, MappedEvent, Relay},
    process::Background,
};
use flack_tokens::consumer;
use serde::Deserialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

#[sqlx::test(migrations = false)]
async fn hearing_of_a_new_password_revokes_the_older_tokens_of_that_user_alone(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let old = service.token().await;
    let stopping = users_publish(&pool).await;
    let handler = Arc::new(service.password_changes());
    let consumer =
        Consumer::new("users", pool.clone(), stopping.events.clone(), handler).only(consumer::KIND);
    let consumer = tokio::spawn(consumer.run(stopping.token.clone()));
    let background = Background::default();
    service.publisher.start(&Ownership::always(), &background);

    change_password(&pool, 99).await;
    change_password(&pool, ADA).await;
    eventually("the old token is refused", async || service.shows(&old).await == Err(401)).await;
    let new = service.token().await;
    assert_eq!(service.shows(&new).await, Ok(ADA));

    // A later change that is not one of the password revokes nothing.
    sqlx::query("update users_elsewhere set online = not online").execute(&pool).await.expect("an update");
    eventually("everything was heard", async || {
        let waiting: i64 = sqlx::query_scalar("select count(*) from inbox where state = 'done'")
            .fetch_one(&pool)
            .await
            .expect("a count");
        waiting == 4
    })
    .await;
    assert_eq!(service.shows(&new).await, Ok(ADA));
    stopping.token.cancel();
    consumer.await.expect("it ends");
    background.stopping().cancel();
}

#[sqlx::test(migrations = false)]
async fn a_token_whose_password_changed_while_it_was_checked_is_not_issued(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    // The news of the change comes before the token is stored; its time lies after the check began.
    let mut connection = pool.acquire().await.expect("a connection");
    let soon = Utc::now() + TimeDelta::seconds(30);
    assert_eq!(service.password_changes().apply(&mut connection, ADA, soon).await.expect("a change"), 0);
    service.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn a_change_of_long_ago_neither_revokes_nor_is_remembered(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_know_ada();
    let token = service.token().await;
    let mut connection = pool.acquire().await.expect("a connection");
    for hours in [2, 48] {
        let then = Utc::now() - TimeDelta::hours(hours);
        assert_eq!(service.password_changes().apply(&mut connection, ADA, then).await.expect("a change"), 0);
    }
    assert_eq!(service.shows(&token).await, Ok(ADA));
    let remembered: i64 =
        sqlx::query_scalar("select count(*) from password_changes").fetch_one(&pool).await.expect("a count");
    assert_eq!(remembered, 0);
}

/// Plays users: a table that is journaled, and a relay that publishes what changes in it.
struct Publishing {
    events: Events,
    token: CancellationToken,
}

async fn users_publish(pool: &PgPool) -> Publishing {
    for statement in [
        "create table users_elsewhere (
             id bigint primary key, password_changed_at timestamptz not null, online boolean not null default true,
             version bigint not null default 1
         )",
        "select attach_journal('users_elsewhere', 'user')",
    ] {
        sqlx::query(statement).execute(pool).await.expect("a table");
    }
    let events = Events::InProcess(InProcess::new("users"));
    let token = CancellationToken::new();
    let relay = Relay::new("users", pool.clone(), events.clone(), map);
    tokio::spawn(relay.run(token.clone()));
    Publishing { events, token }
}

async fn change_password(pool: &PgPool, user_id: i64) {
    sqlx::query("insert into users_elsewhere (id, password_changed_at) values ($1, now())")
        .bind(user_id)
        .execute(pool)
        .await
        .expect("an insert");
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    password_changed_at: chrono::DateTime<Utc>,
    online: bool,
}

fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    if row.entity != "user" {
        return Ok(None);
    }
    let Row { id, password_changed_at, online } = row.decode()?;
    let user = UserModel {
        id,
        created_at: 1,
        updated_at: 1,
        last_seen_at: 1,
        password_changed_at: password_changed_at.timestamp_millis() + 1,
        nickname: "ada".to_owned(),
        online,
    };
    MappedEvent::new(row, &UsersEvent::UserChanged(user)).map(Some)
}
