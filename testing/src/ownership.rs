//! The fence in a database: tests for the database of each part, and for the monolith's.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgPool, error::DatabaseError};

use crate::eventually;

/// Tables that every database has. They belong to no part.
const SHARED: [&str; 20] = [
    "_flack_shared_migrations",
    "_sqlx_migrations",
    "inbox",
    "inbox_entity",
    "inbox_offset",
    "journal",
    "journal_published",
    "journal_queue",
    "journal_stream",
    "ownership",
    "part_changes",
    "part_copies",
    "part_keys",
    "part_logs",
    "part_replicas",
    "part_tables",
    "part_touched",
    "part_verifications",
    "projections",
    "shadow_reads",
];

/// PostgreSQL's bits of a trigger that fires before each statement: insert, update, delete and truncate.
const BEFORE_EVERY_STATEMENT: i16 = 2 + 4 + 8 + 16 + 32;

/// A test's pool has five connections; one closes the part.
const WRITERS: usize = 4;
const WRITES_BEFORE_THE_CLOSE: i64 = 40;
const ROUNDS: i64 = 5;

/// Asserts that only the owner of a part writes it. `pool` is the part's own database, with all migrations, and `write`
/// a statement that writes one journal row of the part.
pub async fn only_the_owner_writes(pool: &PgPool, part: &str, write: &'static str) {
    every_table_is_fenced(pool, &[part]).await;
    no_write_commits_behind_the_marker(pool, part, write).await;
    a_replica_is_not_written(pool).await;
}

/// Asserts that each table is shared, a projection, or belongs to a part of `parts` and has the fence's trigger, and
/// that a part's tables are in the order of their foreign keys.
pub async fn every_table_is_fenced(pool: &PgPool, parts: &[&str]) {
    let projections: BTreeSet<String> =
        sqlx::query_scalar("select name from projections").fetch_all(pool).await.expect("names").into_iter().collect();
    let tables: Vec<(String, Option<String>, bool)> = sqlx::query_as(
        "select relname::text, part, exists (
             select from pg_trigger
             where tgrelid = class.oid and tgfoid = 'ownership_check()'::regprocedure
                 and tgtype = $1 and tgenabled = 'O' and encode(tgargs, 'escape') = part || '\\000'
         )
         from pg_class as class left join part_tables on target = class.oid
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition",
    )
    .bind(BEFORE_EVERY_STATEMENT)
    .fetch_all(pool)
    .await
    .expect("the catalogue");
    let mut fenced = BTreeSet::new();
    for (table, part, has_trigger) in &tables {
        match part {
            Some(part) => {
                assert!(has_trigger, "{table} of {part} has no fence: its migration calls attach_part");
                assert!(parts.contains(&part.as_str()), "{part} has {table}, but is no part of this database");
                fenced.insert(part.as_str());
            }
            None if SHARED.contains(&table.as_str()) || projections.contains(table) => {}
            None => panic!("{table} belongs to no part: its migration calls attach_part, or declares a projection"),
        }
    }
    assert_eq!(fenced, parts.iter().copied().collect());

    // `attach_part` comes after `attach_journal`, and adds the part to the arguments of its trigger.
    let without_epoch: Vec<String> = sqlx::query_scalar(
        "select tgrelid::regclass::text from pg_trigger inner join part_tables on target = tgrelid
         where tgfoid = 'journal_write()'::regprocedure
             and strpos(encode(tgargs, 'escape'), '\\000' || part || '\\000') = 0",
    )
    .fetch_all(pool)
    .await
    .expect("the triggers");
    assert_eq!(without_epoch, Vec::<String>::new(), "their journal rows have no epoch");

    let disordered: Vec<String> = sqlx::query_scalar(
        "select conname::text
         from pg_constraint
         inner join part_tables as referencing on referencing.target = conrelid
         inner join part_tables as referenced on referenced.target = confrelid
         where contype = 'f' and referencing.part = referenced.part and referencing.position <= referenced.position",
    )
    .fetch_all(pool)
    .await
    .expect("the foreign keys");
    assert_eq!(disordered, Vec::<String>::new(), "a table comes after those that it references");
}

/// Asserts that no statement writes a table of a replica.
pub async fn a_replica_is_not_written(pool: &PgPool) {
    sqlx::query("select follow_record(part, false, epoch + 1, false, null, true) from ownership")
        .execute(pool)
        .await
        .expect("roles");
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select target::text, attname::text
         from part_tables inner join pg_attribute on attrelid = target and attnum = 1",
    )
    .fetch_all(pool)
    .await
    .expect("tables");
    assert!(!tables.is_empty(), "no table belongs to a part");
    for (table, column) in tables {
        for statement in [
            format!("insert into {table} default values"),
            format!("update {table} set {column} = {column}"),
            format!("delete from {table}"),
            // A journaled table refuses it at the owner, too.
            format!("truncate {table} cascade"),
        ] {
            let result = sqlx::query(AssertSqlSafe(statement.clone())).execute(pool).await;
            let error = result.expect_err(&statement);
            let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default();
            let is_refused = code == "FL001" || (statement.starts_with("truncate") && code == "0A000");
            assert!(is_refused, "{statement}: {error}");
        }
    }
}

/// Asserts that all writes that commit are before the marker, when a part is closed while clients write, and that they
/// go on with the next epoch when it is opened again. `write` is a statement that writes one journal row of the part.
pub async fn no_write_commits_behind_the_marker(pool: &PgPool, part: &str, write: &'static str) {
    // Without the lock some of the rounds fail, not all.
    for round in 0..ROUNDS {
        let (open, closed) = (2 * round, 2 * round + 1);
        let before = journaled(pool, open).await;
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write_until_fenced(pool.clone(), write))).collect();
        let has_writes = async || journaled(pool, open).await - before >= WRITES_BEFORE_THE_CLOSE;
        eventually("the clients write", has_writes).await;
        sqlx::query("select close_part($1, $2)").bind(part).bind(closed).execute(pool).await.expect("closed");
        let mut committed = 0;
        for writer in writers {
            committed += writer.await.expect("the client ends");
        }
        assert_eq!(journaled(pool, open).await - before, committed, "a journal row for each write, at epoch {open}");
        let behind: i64 = sqlx::query_scalar(
            "select count(*) from journal where id > (select max(id) from journal where entity = 'ownership')",
        )
        .fetch_one(pool)
        .await
        .expect("a count");
        assert_eq!(behind, 0, "writes behind the marker of epoch {closed}");

        let role: String = sqlx::query_scalar("select follow_record($1, true, $2, false, null, true)")
            .bind(part)
            .bind(closed + 1)
            .fetch_one(pool)
            .await
            .expect("opened");
        assert_eq!(role, "owner");
    }
}

async fn journaled(pool: &PgPool, epoch: i64) -> i64 {
    sqlx::query_scalar("select count(*) from journal where epoch = $1 and entity <> 'ownership'")
        .bind(epoch)
        .fetch_one(pool)
        .await
        .expect("a count")
}

/// Commits transactions of two writes until one is refused. Returns the number of committed writes.
async fn write_until_fenced(pool: PgPool, write: &'static str) -> i64 {
    let mut committed = 0;
    loop {
        let result: sqlx::Result<()> = async {
            let mut transaction = pool.begin().await?;
            for _ in 0..2 {
                sqlx::query(write).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        }
        .await;
        match result {
            Ok(()) => committed += 2,
            Err(error) => {
                let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default();
                assert_eq!(code, "FL001", "{error}");
                return committed;
            }
        }
    }
}
