//! Changes after the copy.

use std::time::Duration;

use flack_handover::{
    Part, Side,
    protocol::{self, PauseRequest},
};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::pair::{Pair, eventually, scalar};

#[sqlx::test(migrations = false)]
async fn a_transaction_that_commits_late_is_not_missed(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.follow().await;
    let mut late = pair.monolith.begin().await.expect("a transaction");
    sqlx::query("insert into users (nickname, password_hash) values ('late', 'x')")
        .execute(&mut *late)
        .await
        .expect("a write");
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('early', 'x')").await;
    let count = "select count(*) from users";
    // The change of the later transaction has a higher id, and is held back until the first one ends.
    let held_back = timeout(Duration::from_millis(300), async {
        eventually("a row arrives", async || scalar::<i64>(&pair.service, count).await > 0).await;
    });
    assert!(held_back.await.is_err(), "a row has arrived before an older transaction has ended");
    late.commit().await.expect("it commits");
    pair.become_equal().await;
    assert_eq!(scalar::<i64>(&pair.service, count).await, 2);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn unique_values_that_rows_have_exchanged_and_deleted_rows_arrive(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(
        Side::Monolith,
        "insert into users (nickname, password_hash)
         select 'user' || number, 'x' from generate_series(1, 20) as number",
    )
    .await;
    pair.execute(Side::Monolith, "insert into nickname_keys select id, nickname, nickname, false from users").await;
    pair.follow().await;
    let () = pair.call(Side::Service, protocol::PAUSE, PauseRequest { is_paused: true }).await;
    eventually("it is paused", async || {
        pair.following(Side::Service).await.is_some_and(|it| it.is_paused && it.throttled.is_some())
    })
    .await;
    for statement in [
        "update users set nickname = 'free' where id = 1",
        "update users set nickname = 'user1' where id = 2",
        "update users set nickname = 'user2' where id = 1",
        "delete from users where id = 3",
        "insert into users (nickname, password_hash) values ('user3', 'another')",
        "update users set id = 100 where id = 4 and not exists (select from nickname_keys where user_id = 100)",
    ] {
        // The keys of the last one reference it.
        if statement.contains("id = 100") {
            pair.execute(Side::Monolith, "delete from nickname_keys where user_id = 4").await;
        }
        pair.execute(Side::Monolith, statement).await;
    }
    let () = pair.call(Side::Service, protocol::PAUSE, PauseRequest { is_paused: false }).await;
    pair.become_equal().await;
    assert_eq!(scalar::<String>(&pair.service, "select nickname from users where id = 2").await, "user1");
    assert_eq!(scalar::<i64>(&pair.service, "select count(*) from nickname_keys where user_id = 3").await, 0);
    let following = pair.following(Side::Service).await.expect("it follows");
    assert!(following.error.is_none() && !following.is_paused, "{following:?}");
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn members_of_channels_who_join_read_and_leave_are_members_at_the_replica(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Messages).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x')").await;
    pair.follow().await;
    for statement in [
        "insert into channels (name, kind) values ('plans', 'private')",
        "insert into channel_members (channel_id, user_id) select id, 1 from channels",
        "update channel_members set last_read_message_id = 9 where channel_id = 1",
        "update channel_members set left_at = now() where channel_id > 1",
        "insert into messages (user_id, channel_id, source, html) values (1, 1, 'x', 'x')",
        "update messages set source = '', html = '', deleted_at = now()",
    ] {
        pair.execute(Side::Monolith, statement).await;
    }
    pair.become_equal().await;
    let members = "select string_agg(last_read_message_id || ' ' || version || ' ' || (left_at is not null), ', '
         order by channel_id) from channel_members";
    assert_eq!(scalar::<String>(&pair.service, members).await, "9 2 false, 0 2 true");
    assert!(scalar::<bool>(&pair.service, "select bool_and(deleted_at is not null) from messages").await);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn the_owner_deletes_applied_changes_and_the_lag_and_the_way_back_are_measured(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.follow().await;
    for number in 0..50 {
        pair.execute(
            Side::Monolith,
            &format!("insert into users (nickname, password_hash) values ('user{number}', 'x')"),
        )
        .await;
    }
    pair.become_equal().await;
    eventually("applied changes are deleted", async || {
        scalar::<i64>(&pair.monolith, "select count(*) from part_changes where kind = 'row'").await == 0
    })
    .await;
    eventually("the lag is known", async || {
        pair.following(Side::Service).await.is_some_and(|following| following.lag_ms.is_some())
    })
    .await;
    eventually("the way back works", async || {
        pair.status(Side::Monolith).await.way_back_age_seconds.is_some_and(|age| age < 60)
    })
    .await;
    pair.end().await;
}
