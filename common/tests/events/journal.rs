//! The journal's triggers and partitions.

use std::{fs, path::Path};

use flack_catalogue::SERVICES;
use flack_common::events::partitions;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::things::{database, insert, rename, scalar};

#[sqlx::test(migrations = false)]
async fn every_change_writes_a_row_without_the_omitted_columns(pool: PgPool) {
    database(&pool).await;
    let id = insert(&pool, "one").await;
    rename(&pool, id, "two").await;
    sqlx::query("delete from thing").execute(&pool).await.unwrap();

    let rows: Vec<(String, String, String, i64, Value)> =
        sqlx::query_as("select operation, entity, entity_id, version, row_data - 'version' from journal order by id")
            .fetch_all(&pool)
            .await
            .unwrap();

    let row = |operation: &str, version, name: &str| {
        (operation.to_owned(), "thing".to_owned(), id.to_string(), version, json!({ "id": id, "name": name }))
    };
    assert_eq!(rows, [row("insert", 1, "one"), row("update", 2, "two"), row("delete", 3, "two")]);
}

#[sqlx::test(migrations = false)]
async fn a_changed_key_deletes_one_entity_and_updates_another(pool: PgPool) {
    database(&pool).await;
    sqlx::raw_sql(
        "create table place (
            train text, number int, name text not null, version bigint not null default 1, primary key (train, number)
        );
        select attach_journal('place', 'place');
        insert into place values ('a', 1, 'ada');
        update place set number = 2, name = 'bob'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let rows: Vec<(String, String, i64, String)> = sqlx::query_as(
        "select operation, entity_id, journal.version, row_data ->> 'name'
        from journal_queue as queue inner join journal on journal.id = queue.journal_id order by queue.id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let row = |operation: &str, id: &str, version, name: &str| {
        (operation.to_owned(), id.to_owned(), version, name.to_owned())
    };
    assert_eq!(rows, [row("insert", "a:1", 1, "ada"), row("delete", "a:1", 2, "ada"), row("update", "a:2", 2, "bob"),]);
}

#[sqlx::test(migrations = false)]
async fn the_correlation_id_of_the_transaction_is_in_the_journal(pool: PgPool) {
    database(&pool).await;
    let context = flack_api::Context::background();
    let mut transaction = flack_common::database::begin(&pool, &context).await.unwrap();
    sqlx::query("insert into thing (name) values ('mine')").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();

    let found: Option<String> = scalar(&pool, "select correlation_id from journal").await;
    assert_eq!(found, Some(context.correlation_id));

    insert(&pool, "without a request").await;
    let found: Option<String> = scalar(&pool, "select correlation_id from journal order by id desc limit 1").await;
    assert_eq!(found, None);
}

#[sqlx::test(migrations = false)]
async fn no_statement_can_lower_a_version(pool: PgPool) {
    database(&pool).await;
    let id = insert(&pool, "one").await;
    sqlx::query("update thing set version = 7").execute(&pool).await.unwrap();
    sqlx::query("update thing set version = 1").execute(&pool).await.unwrap();
    rename(&pool, id, "two").await;
    assert_eq!(scalar::<i64>(&pool, "select version from thing").await, 9);
}

#[sqlx::test(migrations = false)]
async fn truncating_a_journaled_table_is_refused(pool: PgPool) {
    database(&pool).await;
    let refused = sqlx::query("truncate thing").execute(&pool).await.unwrap_err();
    assert!(refused.to_string().contains("would publish no events"), "{refused}");
}

#[sqlx::test(migrations = false)]
async fn a_table_that_cannot_be_journaled_is_refused_with_the_reason(pool: PgPool) {
    database(&pool).await;
    sqlx::raw_sql("create table keyless (version bigint); create table plain (a int, b int, primary key (b, a))")
        .execute(&pool)
        .await
        .unwrap();
    for (attach, reason) in [
        ("select attach_journal('keyless', 'k')", "no primary key"),
        ("select attach_journal('plain', 'p')", "no column version"),
        ("select attach_journal('thing', 't', '{password}')", "no column password"),
    ] {
        let refused = sqlx::query(attach).execute(&pool).await.unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_composite_key_is_joined_in_the_order_of_the_key(pool: PgPool) {
    database(&pool).await;
    sqlx::raw_sql(
        "create table pair (a int, b text, version bigint not null default 1, primary key (b, a));
        select attach_journal('pair', 'pair');
        insert into pair values (5, 'five')",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(scalar::<String>(&pool, "select entity_id from journal").await, "five:5");
}

#[sqlx::test(migrations = false)]
async fn partitions_are_created_ahead_and_old_ones_dropped_unless_they_have_queued_rows(pool: PgPool) {
    database(&pool).await;
    insert(&pool, "today").await;
    assert_eq!(scalar::<i64>(&pool, "select count(*) from journal_default").await, 0, "today has its own partition");
    let (made, dropped) = partitions::maintain_once(&pool).await.unwrap();
    assert_eq!((made, dropped), (2, 0), "one more day for the journal, one for the inbox");

    sqlx::raw_sql(
        "create table journal_20200101 partition of journal
            for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
        create table journal_20200102 partition of journal
            for values from ('2020-01-02 00:00+00') to ('2020-01-03 00:00+00');
        insert into journal (recorded_at, operation, entity, entity_id, version, row_data)
            values ('2020-01-01 12:00+00', 'insert', 'thing', '1', 1, '{}'),
                ('2020-01-02 12:00+00', 'insert', 'thing', '1', 1, '{}'),
                ('2020-02-02 12:00+00', 'insert', 'thing', '1', 1, '{}');
        insert into journal_queue (journal_id, recorded_at)
            select id, recorded_at from journal where recorded_at < '2020-01-02'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let (_, dropped) = partitions::maintain_once(&pool).await.unwrap();
    assert_eq!(dropped, 1, "the partition with a queued row is kept");
    assert_eq!(
        scalar::<i64>(&pool, "select count(*) from journal_default").await,
        0,
        "old rows of the default partition are deleted"
    );
    let kept: bool = scalar(&pool, "select to_regclass('journal_20200101') is not null").await;
    assert!(kept);
}

#[sqlx::test(migrations = false)]
async fn a_write_does_not_scan_the_queue(pool: PgPool) {
    database(&pool).await;
    // One connection, which caches its plans while the queue is empty.
    let mut connection = pool.acquire().await.unwrap();
    let mut table_scans = Vec::new();
    for _ in 0..2 {
        for _ in 0..20 {
            sqlx::query("insert into thing (name) values ('one more')").execute(&mut *connection).await.unwrap();
        }
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
        let count: i64 = sqlx::query_scalar("select seq_scan from pg_stat_user_tables where relname = 'journal_queue'")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        table_scans.push(count);
    }
    assert_eq!(table_scans[0], table_scans[1]);
}

/// Projections, derived keys, limits of sign-ins and the content of files: no events are published for them.
const NOT_JOURNALED: [&str; 11] = [
    "flack/credential_limits",
    "flack/files",
    "flack/known_addresses",
    "flack/nickname_keys",
    "flack/password_changes",
    "messages/files",
    "messages/nicknames",
    "tokens/password_changes",
    "users/credential_limits",
    "users/known_addresses",
    "users/nickname_keys",
];

#[test]
fn every_table_of_every_owner_is_journaled_or_listed() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut not_journaled = Vec::new();
    for owner in fs::read_dir(migrations).unwrap().map(|owner| owner.unwrap().path()) {
        let name = owner.file_name().unwrap().to_str().unwrap().to_owned();
        // The others have projections, or the tables of the journal and the inbox.
        if !SERVICES.iter().any(|service| service.database == name && service.publishes_events) {
            continue;
        }
        let sql: String = fs::read_dir(&owner)
            .unwrap()
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap().to_lowercase())
            .collect();
        let tables: Vec<&str> = sql
            .lines()
            .filter_map(|line| line.strip_prefix("create table "))
            .map(|rest| rest.split([' ', '(']).next().unwrap())
            .collect();
        assert!(!tables.is_empty(), "no table found in migrations/{name}");
        not_journaled.extend(
            tables
                .into_iter()
                .filter(|table| !sql.contains(&format!("select attach_journal('{table}'")))
                .map(|table| format!("{name}/{table}")),
        );
    }
    not_journaled.sort();
    assert_eq!(
        not_journaled, NOT_JOURNALED,
        "attach_journal is missing, or NOT_JOURNALED has a table that is journaled"
    );
}
