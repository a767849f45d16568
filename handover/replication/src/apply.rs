//! One transaction of the applier: rows of the owner, with the position that they belong to.
//!
//! A row is deleted and written again rather than updated: so one path serves inserts, updates and deletes, and rows
//! whose unique values have been exchanged do not collide. The transaction runs on the connection that holds the lock
//! of the follower, so a follower that is not the leader any more writes nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use flack_handover::{Part, protocol::Position};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query::Query};

use crate::{replica, tables::Table};

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    pub table: &'a Table,
    pub scope: Scope<'a>,
    /// The rows of the scope that exist at the owner, in the text format of `COPY`.
    pub text: Bytes,
}

/// Which rows of the replica are replaced.
#[derive(Debug)]
pub(crate) enum Scope<'a> {
    Keys(&'a BTreeSet<String>),
    /// A chunk of the copy: the rows after one key, up to another one or to the end.
    Range {
        after: Option<&'a Value>,
        up_to: Option<&'a Value>,
    },
}

/// What the transaction writes beside the rows.
#[derive(Debug)]
pub(crate) enum Progress<'a> {
    /// Changes up to this position.
    Changes { position: Position },
    /// A chunk of the copy of a table.
    Chunk { last_key: Option<&'a Value>, is_last: bool },
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// A row collides with one that has changed at the owner since. Later changes resolve it.
    #[error("a row of {table} collides with another one ({constraint})")]
    Collides { table: String, constraint: String },
    /// The state of the replica has changed: it is read again.
    #[error("the state of the replica has changed")]
    Changed,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Applies rows and progress, or nothing. `since` is the state in which the rows were fetched.
pub(crate) async fn apply(
    connection: &mut PgConnection,
    part: Part,
    since: i64,
    rows: &[Rows<'_>],
    progress: &Progress<'_>,
) -> Result<u64, ApplyError> {
    let mut transaction = connection.begin().await?;
    let state = replica::lock(&mut *transaction, part).await?;
    if state.since != Some(since) || (state.has_keys && !rows.is_empty()) || state.is_paused {
        transaction.rollback().await?;
        return Err(ApplyError::Changed);
    }
    let mut applied = 0;
    for item in rows {
        match write(&mut transaction, item).await {
            Ok(rows) => applied += rows,
            Err(error) => {
                transaction.rollback().await?;
                return Err(collision(item.table, error));
            }
        }
        if let (Scope::Keys(keys), true) = (&item.scope, state.tracks_touched) {
            sqlx::query(
                "insert into part_touched (part, target, key) select $1, $2, key from jsonb_array_elements($3) as key
                 on conflict (part, target, key) do update set touched_at = excluded.touched_at",
            )
            .bind(part.service().name)
            .bind(&item.table.name)
            .bind(keys_array(keys))
            .execute(&mut *transaction)
            .await?;
        }
    }
    let name = part.service().name;
    match progress {
        Progress::Changes { position } => {
            sqlx::query(
                "with moved as (
                     update part_replicas
                     set transaction = $2::text::xid8, id = $3, rows_applied = rows_applied + $4
                     where part = $1
                 )
                 update ownership set applied = greatest(applied, $3) where part = $1",
            )
            .bind(name)
            .bind(position.transaction.to_string())
            .bind(position.id)
            .bind(applied.cast_signed())
            .execute(&mut *transaction)
            .await?;
        }
        Progress::Chunk { last_key, is_last } => {
            let table = rows.first().map(|item| item.table.name.as_str());
            sqlx::query(
                "update part_copies
                 set rows_copied = rows_copied + $3, last_key = coalesce($4, last_key), is_done = $5
                 where part = $1 and target = $2",
            )
            .bind(name)
            .bind(table)
            .bind(applied.cast_signed())
            .bind(last_key)
            .bind(is_last)
            .execute(&mut *transaction)
            .await?;
        }
    }
    transaction.commit().await?;
    Ok(applied)
}

/// Replaces the rows of a scope. Returns the number of rows that were changed.
///
/// Many rows are written by `COPY`. sqlx sends its end as a packet of its own, which Nagle's algorithm holds back until
/// the data is acknowledged, up to 40 ms later; so the few rows of a batch of changes are inserted instead.
async fn write(connection: &mut PgConnection, rows: &Rows<'_>) -> sqlx::Result<u64> {
    let Rows { table, scope, text } = rows;
    let (name, key) = (&table.name, table.key_list());
    let statement = match scope {
        Scope::Keys(_) => {
            format!("delete from {name} where ({key}) in (select {key} from {})", table.keys_relation("$1"))
        }
        Scope::Range { after, up_to } => format!("delete from {name} where {}", table.range(*after, *up_to)),
    };
    let mut delete = sqlx::query(AssertSqlSafe(statement));
    if let Scope::Keys(keys) = scope {
        delete = delete.bind(keys_array(keys));
    }
    let deleted = delete.execute(&mut *connection).await?.rows_affected();
    if text.is_empty() {
        return Ok(deleted);
    }
    if let Scope::Keys(_) = scope {
        let texts = table.texts_by_column(text).into_iter();
        let insert = texts.fold(sqlx::query(AssertSqlSafe(table.insert())), Query::bind);
        return Ok(insert.execute(connection).await?.rows_affected());
    }
    let mut copy = connection.copy_in_raw(&format!("copy {name} ({}) from stdin", table.column_list())).await?;
    copy.send(text.as_ref()).await?;
    copy.finish().await
}

fn keys_array(keys: &BTreeSet<String>) -> Value {
    // Each was made from a JSON value.
    Value::Array(keys.iter().filter_map(|key| serde_json::from_str(key).ok()).collect())
}

fn collision(table: &Table, error: sqlx::Error) -> ApplyError {
    match error.as_database_error() {
        Some(database) if database.code().as_deref() == Some("23505") => ApplyError::Collides {
            table: table.name.clone(),
            constraint: database.constraint().unwrap_or_default().to_owned(),
        },
        _ => ApplyError::Database(error),
    }
}

/// Deletes all rows of a replica that does not follow. Returns false if it follows.
pub(crate) async fn discard(connection: &mut PgConnection, part: Part, tables: &[Table]) -> sqlx::Result<bool> {
    let mut transaction = connection.begin().await?;
    if replica::lock(&mut *transaction, part).await?.since.is_some() {
        transaction.rollback().await?;
        return Ok(false);
    }
    truncate(&mut transaction, tables).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn truncate(connection: &mut PgConnection, tables: &[Table]) -> sqlx::Result<()> {
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    sqlx::query(AssertSqlSafe(format!("truncate {}", names.join(", ")))).execute(connection).await.map(drop)
}

/// Empties the tables and begins to follow since this epoch. `counts` are the rows of each table at the owner.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    part: Part,
    since: i64,
    tables: &[Table],
    counts: &[(String, i64)],
) -> sqlx::Result<()> {
    let name = part.service().name;
    let mut transaction = connection.begin().await?;
    replica::lock(&mut *transaction, part).await?;
    truncate(&mut transaction, tables).await?;
    for statement in [
        "delete from part_copies where part = $1",
        "delete from part_touched where part = $1",
        "delete from part_verifications where part = $1",
        "update ownership set applied = 0 where part = $1",
        "update part_replicas
         set transaction = '0', id = 0, is_copied = false, tracks_touched = false, rows_applied = 0
         where part = $1",
    ] {
        sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
    }
    for (table, rows) in counts {
        sqlx::query("insert into part_copies (part, target, rows_total) values ($1, $2, $3)")
            .bind(name)
            .bind(table)
            .bind(rows)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("update part_replicas set since = $2 where part = $1")
        .bind(name)
        .bind(since)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
