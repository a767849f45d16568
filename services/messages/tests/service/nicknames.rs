//! The projection of nicknames, made from the events of users.

use std::sync::Arc;

use crate::support::{ADA, Service};
use flack_common::events::Consumer;
use flack_messages::nicknames::Nicknames;
use flack_testing::UsersStandIn;
use sqlx::PgPool;

/// Starts the consumer for the events of the stand-in.
async fn start_users(service: &Service) -> UsersStandIn {
    let users = UsersStandIn::start(&service.pool).await;
    let consumer = Consumer::new("users", service.pool.clone(), users.events.clone(), Arc::new(Nicknames));
    tokio::spawn(consumer.run(users.stopping.clone()));
    users
}

const LISTED: &str = "select string_agg(nickname || ' ' || version, ', ' order by user_id) from nicknames";

#[sqlx::test(migrations = false)]
async fn registration_rename_and_deletion_of_users_are_projected(pool: PgPool) {
    let service = Service::start(pool).await;
    let _users = start_users(&service).await;
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
async fn an_older_version_does_not_replace_a_newer_one(pool: PgPool) {
    let service = Service::start(pool).await;
    service.execute("insert into nicknames values (1, 'ada', 7)").await;
    let _users = start_users(&service).await;
    service.execute("insert into users values (1, 'old ada'), (2, 'bob')").await;
    service.wait_for_row("bob, whose event follows ada's", LISTED, "ada 7, bob 1").await;
}
