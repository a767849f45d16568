//! Who comes back with a cursor that is older than memory gets what was missed from the inbox, once.

use std::time::Duration;

use flack_common::database;
use flack_websocket::{MIGRATIONS, Memory};
use sqlx::PgPool;

use crate::{
    client::{BOUND, Client},
    nats::{Nats, message},
    server::Server,
};

/// So little that all goes to the inbox.
fn little() -> Memory {
    Memory { events_max: 4, tail_messages_max: 4, ..Memory::default() }
}

async fn migrated(pool: PgPool) -> PgPool {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    pool
}

/// All of them, each once, in order.
async fn expect(client: &mut Client, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        assert_eq!(client.next_source().await, id.to_string());
    }
}

async fn tell(nats: &Nats, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        nats.tell_message(id, &id.to_string()).await;
    }
}

async fn is_kept_up_to(pool: &PgPool, entity_id: i64) {
    let kept = async {
        while !sqlx::query_scalar::<_, bool>("select exists (select from inbox where entity_id = $1)")
            .bind(entity_id.to_string())
            .fetch_one(pool)
            .await
            .expect("reads work")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, kept).await.expect("the keeper keeps");
}

#[sqlx::test(migrations = false)]
async fn a_cursor_older_than_memory_is_resumed_once_while_new_messages_arrive(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, little(), &pool).await;
    let mut client = server.listener().await;
    tell(&nats, [1]).await;
    expect(&mut client, [1]).await;
    tell(&nats, 2..=300).await;
    let (back, ()) = tokio::join!(client.come_back_to(server.address), tell(&nats, 301..=600));
    let (mut back, resumed) = back;
    assert!(resumed);
    expect(&mut back, 2..=600).await;
    tell(&nats, [601]).await;
    expect(&mut back, [601]).await;
}

#[sqlx::test(migrations = false)]
async fn who_leaves_while_it_is_told_what_it_missed_goes_on_there(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, little(), &pool).await;
    let mut client = server.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    tell(&nats, 2..=60).await;
    let (mut back, resumed) = client.come_back_to(server.address).await;
    assert!(resumed);
    expect(&mut back, 2..=20).await;
    let (mut again, resumed) = back.come_back_to(server.address).await;
    assert!(resumed);
    expect(&mut again, 21..=60).await;
}

#[sqlx::test(migrations = false)]
async fn an_instance_started_anew_resumes_cursors_that_nats_does_not_reach_back_to(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let old = Server::with_inbox(&nats, little(), &pool).await;
    let mut client = old.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    tell(&nats, 2..=30).await;
    is_kept_up_to(&pool, 30).await;
    drop(old);
    nats.purge("MESSAGES").await;
    tell(&nats, 31..=40).await;
    let new = Server::with_inbox(&nats, little(), &pool).await;
    let (mut back, resumed) = client.come_back_to(new.address).await;
    assert!(resumed);
    expect(&mut back, 2..=40).await;
}

#[sqlx::test(migrations = false)]
async fn a_gap_in_the_inbox_is_not_passed_over(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let old = Server::with_inbox(&nats, little(), &pool).await;
    let mut client = old.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    is_kept_up_to(&pool, 1).await;
    drop(old);
    // Gone from NATS before any instance was there to keep it.
    tell(&nats, 2..=5).await;
    nats.purge("MESSAGES").await;
    tell(&nats, 6..=20).await;
    let new = Server::with_inbox(&nats, little(), &pool).await;
    is_kept_up_to(&pool, 20).await;
    let (mut back, resumed) = client.come_back_to(new.address).await;
    assert!(!resumed);
    tell(&nats, 21..=21).await;
    expect(&mut back, 21..=21).await;
}

#[sqlx::test(migrations = false)]
async fn of_two_instances_one_keeps_and_the_other_takes_over(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let first = Server::with_inbox(&nats, little(), &pool).await;
    let mut client = first.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    let second = Server::with_inbox(&nats, little(), &pool).await;
    tell(&nats, 2..=50).await;
    drop(first);
    tell(&nats, 51..=100).await;
    is_kept_up_to(&pool, 100).await;
    let (mut back, resumed) = client.come_back_to(second.address).await;
    assert!(resumed);
    expect(&mut back, 2..=100).await;
    let kept: i64 = sqlx::query_scalar("select count(*) from inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 100);
}

#[sqlx::test(migrations = false)]
async fn who_missed_more_than_the_most_reloads(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let memory = Memory { resume_frames_max: 20, ..little() };
    let server = Server::with_inbox(&nats, memory, &pool).await;
    let mut client = server.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    tell(&nats, 2..=60).await;
    let (mut back, resumed) = client.come_back_to(server.address).await;
    assert!(!resumed);
    tell(&nats, 61..=61).await;
    expect(&mut back, 61..=61).await;
}

#[sqlx::test(migrations = false)]
async fn without_its_database_live_goes_on_and_old_cursors_reload(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let memory = Memory { resume_wait: Duration::from_millis(100), ..little() };
    let server = Server::with_inbox(&nats, memory, &pool).await;
    let mut client = server.listener().await;
    tell(&nats, 1..=1).await;
    expect(&mut client, 1..=1).await;
    pool.close().await;
    let mut staying = server.listener().await;
    tell(&nats, 2..=20).await;
    expect(&mut staying, 2..=20).await;
    let (mut back, resumed) = client.come_back_to(server.address).await;
    assert!(!resumed);
    tell(&nats, 21..=21).await;
    expect(&mut back, 21..=21).await;
    expect(&mut staying, 21..=21).await;
    let (mut again, resumed) = back.come_back_to(server.address).await;
    assert!(resumed, "memory reaches so far");
    tell(&nats, 22..=22).await;
    expect(&mut again, 22..=22).await;
}

#[sqlx::test(migrations = false)]
async fn what_both_streams_told_is_recalled_once_and_not_at_all_by_who_had_it(pool: PgPool) {
    let pool = migrated(pool).await;
    let nats = Nats::start().await;
    let server = Server::with_inbox(&nats, little(), &pool).await;
    let mut early = server.listener().await;
    tell(&nats, [1]).await;
    expect(&mut early, [1]).await;
    let mut late = server.listener().await;
    nats.publish("monolith", "message_changed", message(2, "2")).await;
    expect(&mut late, [2]).await;
    // The other stream tells of it a moment later.
    tell(&nats, 2..=60).await;
    for (client, first) in [(early, 2), (late, 3)] {
        let (mut back, resumed) = client.come_back_to(server.address).await;
        assert!(resumed);
        expect(&mut back, first..=60).await;
    }
}
