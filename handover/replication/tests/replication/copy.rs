//! The copy of the owner's tables, while clients write.

use flack_handover::{
    Part, Record, Side, Stage,
    protocol::{self, PauseRequest, RowsRequest, Selection},
};
use reqwest::StatusCode;
use sqlx::PgPool;

use crate::pair::{KEY, Pair, client, contents, eventually, scalar};

const USERS: &str = "insert into users (nickname, password_hash)
    select 'user' || number, 'hash-of-' || number from generate_series(1, 5000) as number";

#[sqlx::test(migrations = false)]
async fn every_row_that_changes_during_the_copy_arrives_with_its_secrets_and_they_are_nowhere_else(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, USERS).await;
    pair.execute(
        Side::Monolith,
        "insert into nickname_keys (user_id, nickname, key) select id, nickname, 'it''s \\ ' || nickname from users",
    )
    .await;
    pair.execute(Side::Monolith, "insert into credential_limits values ('\\x0102', now())").await;
    pair.execute(Side::Monolith, "insert into known_addresses (user_id, address) select id, '10.0.0.7' from users")
        .await;
    pair.begin_to_follow().await;
    for round in 0..10 {
        // Each row once, a tenth in each round, beside inserts and deletes.
        pair.execute(
            Side::Monolith,
            &format!("update users set password_hash = 'new-hash-' || id where id % 10 = {round} and id <= 5000"),
        )
        .await;
        pair.execute(Side::Monolith, &format!("delete from users where id = {}", 100 * round + 7)).await;
        pair.execute(
            Side::Monolith,
            &format!("insert into users (nickname, password_hash) values ('late{round}', 'hash-of-late')"),
        )
        .await;
    }
    eventually("the copy is complete", async || pair.is_copied().await).await;
    pair.become_equal().await;
    let hash: String = scalar(&pair.service, "select password_hash from users where id = 42").await;
    assert_eq!(hash, "new-hash-42");
    let following = pair.following(Side::Service).await.expect("it follows");
    assert!(following.rows_copied > 0 && following.rows_to_copy == 0 && following.error.is_none(), "{following:?}");
    for database in [&pair.monolith, &pair.service] {
        for table in ["journal", "part_changes", "part_copies", "part_touched", "part_replicas"] {
            let found: bool = scalar(
                database,
                &format!("select exists (select from {table} as item where to_jsonb(item)::text like '%hash-%')"),
            )
            .await;
            assert!(!found, "{table} has a secret");
        }
    }
    assert_eq!(scalar::<i64>(&pair.service, "select count(*) from journal").await, 0, "the owner has journaled them");
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_follower_that_is_killed_in_the_middle_of_the_copy_goes_on_where_it_was(pool: PgPool) {
    let mut pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, &USERS.replace("5000", "30000")).await;
    // The last chunk waits for a lock of this test.
    for statement in [
        "create function wait() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock_shared(25000); return new; end $$",
        "create trigger wait before insert on users for each row when (new.id = 25000) execute function wait()",
    ] {
        pair.execute(Side::Service, statement).await;
    }
    let mut lock = pair.service.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(25000)").execute(&mut *lock).await.expect("the lock");
    pair.begin_to_follow().await;
    let copied = "select coalesce(sum(rows_copied), 0)::bigint from part_copies";
    eventually("a part is copied", async || scalar::<i64>(&pair.service, copied).await > 0).await;
    pair.kill(Side::Service);
    let before: i64 = scalar(&pair.service, copied).await;
    assert!(before < 30_000, "it was killed too late: {before}");
    lock.rollback().await.expect("the lock is released");
    pair.execute(Side::Monolith, "update users set online = false where id % 7 = 0").await;
    pair.restart(Side::Service).await;
    eventually("the copy is complete", async || pair.is_copied().await).await;
    assert_eq!(scalar::<i64>(&pair.service, copied).await, 30_000, "each row is copied once");
    pair.become_equal().await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn rows_that_a_killed_follower_does_not_receive_are_no_answer_to_the_next_statement(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, &USERS.replace("5000", "30000")).await;
    let columns: Vec<String> =
        sqlx::query_scalar("select attname::text from pg_attribute where attrelid = 'users'::regclass and attnum > 0")
            .fetch_all(&pair.monolith)
            .await
            .expect("columns");
    let rows =
        RowsRequest { table: "users".to_owned(), columns, selection: Selection::After { key: None, limit: 30_000 } };
    for _ in 0..20 {
        let request = client().post(pair.url_of(Side::Monolith, protocol::ROWS)).bearer_auth(KEY).json(&rows);
        let mut response = request.send().await.expect("an answer");
        assert!(response.chunk().await.expect("a chunk").is_some());
        drop(response);
        for number in 0..20 {
            assert_eq!(scalar::<i64>(&pair.monolith, &format!("select {number}::bigint")).await, number);
        }
    }
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn every_part_is_copied_with_all_columns(pool: PgPool) {
    for part in [Part::Tokens, Part::Messages, Part::Ui] {
        let pair = Pair::start(&pool, part).await;
        if part == Part::Tokens {
            pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x')").await;
            pair.execute(
                Side::Monolith,
                "insert into signing_keys (id, private_key, public_jwk) values ('k', '\\x00ff5c0a', '{\"a\": [1]}')",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into tokens (id, user_id, issued_at, expires_at)
                 select gen_random_uuid(), 1, now(), now() from generate_series(1, 100)",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into messages (user_id, channel_id, source, html, idempotency_key, idempotency_digest)
                 select 1, 1, e'tab\\t \\\\ line\\nend \\\\N', '<p>' || number, gen_random_uuid(), '\\x0d0a'
                 from generate_series(1, 3000) as number",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into link_previews (message_id, position, url, correlation_id)
                 select id, 1, 'https://a', 'c' from messages",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into channels (name, kind, topic) values ('plans', 'private', 'next')",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into channel_members (channel_id, user_id, left_at, last_read_message_id)
                 select id, 1, now(), 7 from channels",
            )
            .await;
            pair.execute(
                Side::Monolith,
                "insert into read_markers (user_id, channel, message_id)
                 select 1, 'channel ' || number, 1 from generate_series(1, 50) as number",
            )
            .await;
            pair.execute(Side::Monolith, "insert into preferences values (1, 'dark', true)").await;
            // More large rows than are read at once.
            pair.execute(
                Side::Monolith,
                "insert into files (user_id, channel_id, name, type, content)
                 select 1, 1, 'file ' || number, 'x', decode(repeat('00ff', 65536), 'hex')
                 from generate_series(1, 20) as number",
            )
            .await;
        }
        pair.follow().await;
        pair.become_equal().await;
        if part == Part::Messages {
            pair.execute(Side::Monolith, "update files set message_id = 1").await;
            pair.execute(Side::Monolith, "delete from files where name = 'file 7'").await;
            pair.become_equal().await;
        }
        assert!(contents(&pair.service, part).await.values().all(|rows| !rows.is_empty()), "{part}");
        assert_eq!(columns(&pair.monolith, part).await, columns(&pair.service, part).await);
        pair.end().await;
    }
}

async fn columns(pool: &PgPool, part: Part) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%s.%s %s', target, attname, format_type(atttypid, atttypmod))
         from part_tables inner join pg_attribute on attrelid = target and attnum > 0 and not attisdropped
         where part = $1 order by 1",
    )
    .bind(part.service().name)
    .fetch_all(pool)
    .await
    .expect("columns")
}

#[sqlx::test(migrations = false)]
async fn a_replica_of_an_earlier_following_may_be_emptied_and_copies_again(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x'), ('bob', 'y')").await;
    let record = pair.follow().await;
    let discard = async || {
        let request = client().post(pair.url_of(Side::Service, protocol::DISCARD)).bearer_auth(KEY);
        request.send().await.expect("an answer").status()
    };
    assert_eq!(discard().await, StatusCode::CONFLICT, "it follows");
    assert_eq!(scalar::<i64>(&pair.service, "select count(*) from users").await, 2);
    let ended = Record { epoch: record.epoch + 1, ..Record::initial(Side::Monolith) };
    pair.put(ended).await;
    eventually("nobody follows", async || {
        scalar::<bool>(&pair.monolith, "select bool_and(followed_since is null) from ownership").await
    })
    .await;
    eventually("its rows are deleted", async || discard().await == StatusCode::NO_CONTENT).await;
    assert_eq!(scalar::<i64>(&pair.service, "select count(*) from users").await, 0);
    // Nobody records these changes.
    pair.execute(Side::Monolith, "delete from users where nickname = 'ada'").await;
    pair.execute(Side::Monolith, "update users set nickname = 'ada' where nickname = 'bob'").await;
    pair.put(Record { epoch: ended.epoch + 1, ..ended.at(Stage::Following) }).await;
    pair.become_equal().await;
    eventually("the copy is complete", async || pair.is_copied().await).await;
    assert_eq!(scalar::<i64>(&pair.service, "select since from part_replicas").await, ended.epoch + 1);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_follower_that_was_busy_while_the_part_was_retired_and_followed_again_copies_again(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x')").await;
    let record = pair.follow().await;
    // It waits for the row of a change.
    let () = pair.call(Side::Service, protocol::PAUSE, PauseRequest { is_paused: true }).await;
    pair.execute(Side::Monolith, "update users set online = false").await;
    let mut lock = pair.monolith.begin().await.expect("a transaction");
    sqlx::query("lock table users").execute(&mut *lock).await.expect("the lock");
    let () = pair.call(Side::Service, protocol::PAUSE, PauseRequest { is_paused: false }).await;
    let waits = "select exists (
        select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like 'copy%'
    )";
    eventually("it waits for the row", async || scalar(&pair.monolith, waits).await).await;
    let ended = Record { epoch: record.epoch + 1, ..Record::initial(Side::Monolith) };
    pair.put(ended).await;
    eventually("the replica is not one of this epoch any more", async || {
        scalar::<bool>(&pair.service, "select since is null from part_replicas").await
    })
    .await;
    let again = Record { epoch: ended.epoch + 1, ..ended.at(Stage::Following) };
    pair.put(again).await;
    eventually("the owner records changes again", async || {
        let since = "select coalesce(max(followed_since), 0) from ownership where part = 'users'";
        scalar::<i64>(&pair.monolith, since).await == again.epoch
    })
    .await;
    lock.rollback().await.expect("the lock is released");
    eventually("the copy is complete", async || pair.is_copied().await).await;
    pair.become_equal().await;
    pair.end().await;
}
