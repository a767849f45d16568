//! Rows in the text format of PostgreSQL's `COPY`, and digests of key ranges.
//!
//! Both databases print a value in the same way: sqlx sets the formats of times, and the columns are named in one
//! order. Rows contain secrets: they are neither logged nor part of an error.

use bytes::Bytes;
use flack_handover::protocol::{Digests, DigestsRequest, RangeDigest, Selection};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream, TryReadyChunksError},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::sync::mpsc;

use crate::tables::{Table, literal};

const ROWS_PER_BLOCK_MAX: usize = 500;

/// Streams the selected rows as they are now.
///
/// A connection whose `COPY` has failed, or was not read to the end, is closed. sqlx would return it to the pool, where
/// the next statement takes what is left for its own answer.
pub(crate) async fn copy_out(
    pool: &PgPool,
    table: &Table,
    selection: &Selection,
) -> sqlx::Result<BoxStream<'static, sqlx::Result<Bytes>>> {
    let (name, columns, key) = (&table.name, table.column_list(), table.key_list());
    let query = match selection {
        Selection::Keys(keys) => {
            let keys = format!("{}::jsonb", literal(&Value::Array(keys.clone()).to_string()));
            format!("select {columns} from {} inner join {name} using ({key})", table.keys_relation(&keys))
        }
        Selection::After { key: after, limit } => {
            let range = table.range(after.as_ref(), None);
            format!("select {columns} from {name} where {range} order by {key} limit {limit}")
        }
    };
    let mut connection = pool.acquire().await?;
    let (blocks, mut sent) = mpsc::channel(1);
    // Not a part of the stream: that one is dropped with the connection in it when the client goes away.
    tokio::spawn(async move {
        let result = copy(&mut connection, &format!("copy ({query}) to stdout"), &blocks).await;
        if !matches!(result, Ok(true)) {
            drop(connection.detach());
        }
        if let Err(error) = result {
            let _ = blocks.send(Err(error)).await;
        }
    });
    // The answer to a statement that fails at once has a status of its own.
    let first = sent.recv().await.transpose()?;
    let rest = stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

/// Returns whether all rows were sent; false when nobody receives them any more.
async fn copy(
    connection: &mut PgConnection,
    statement: &str,
    blocks: &mpsc::Sender<sqlx::Result<Bytes>>,
) -> sqlx::Result<bool> {
    // PostgreSQL sends each row as a message. A block of an HTTP body for each would cost more than the row.
    let mut rows = connection.copy_out_raw(statement).await?.try_ready_chunks(ROWS_PER_BLOCK_MAX);
    while let Some(rows) = rows.try_next().await.map_err(|TryReadyChunksError(_, error)| error)? {
        if blocks.send(Ok(Bytes::from(rows.concat()))).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Computes the digests of consecutive ranges. The last one has the end of the request, unless there are more ranges
/// than `ranges_max`.
pub(crate) async fn digests(pool: &PgPool, table: &Table, request: &DigestsRequest) -> sqlx::Result<Digests> {
    let rows_max = u64::from(request.rows_per_range) * u64::from(request.ranges_max);
    let (name, key, range) =
        (&table.name, table.key_list(), table.range(request.after.as_ref(), request.up_to.as_ref()));
    let statement = format!(
        "with item as (
             select row_number() over (order by {key}) - 1 as place, {hash} as hash, {key}
             from {name} where {range} order by {key} limit {rows_max}
         )
         select place / {per}, count(*), sum(hash)::text,
             (array_agg({object}) filter (where (place + 1) % {per} = 0))[1]
         from item group by 1 order by 1",
        hash = hash(table),
        per = request.rows_per_range,
        object = table.key_object(),
    );
    let found: Vec<(i64, i64, String, Option<Value>)> =
        sqlx::query_as(AssertSqlSafe(statement)).fetch_all(pool).await?;
    let (mut ranges, mut after) = (Vec::with_capacity(found.len() + 1), request.after.clone());
    let mut rows_found = 0;
    for (_, rows, digest, last) in found {
        let rows = rows.unsigned_abs();
        rows_found += rows;
        let up_to = last.or_else(|| request.up_to.clone());
        ranges.push(RangeDigest { after: after.take(), up_to: up_to.clone(), rows, digest });
        after = up_to;
    }
    if rows_found < rows_max && rows_found.is_multiple_of(u64::from(request.rows_per_range)) {
        // The rows end with a full range, and the rest of the requested range is empty.
        ranges.push(RangeDigest { after, up_to: request.up_to.clone(), rows: 0, digest: "0".to_owned() });
    }
    Ok(Digests { ranges })
}

/// Computes rows and digest of one range.
pub(crate) async fn digest_of_range(
    pool: &PgPool,
    table: &Table,
    after: Option<&Value>,
    up_to: Option<&Value>,
) -> sqlx::Result<(u64, String)> {
    let statement = format!(
        "select count(*), coalesce(sum({}), 0)::text from {} where {}",
        hash(table),
        table.name,
        table.range(after, up_to)
    );
    let (rows, digest): (i64, String) = sqlx::query_as(AssertSqlSafe(statement)).fetch_one(pool).await?;
    Ok((rows.unsigned_abs(), digest))
}

/// The hash of a row. The sum of many is the digest of a range: it needs no order.
fn hash(table: &Table) -> String {
    format!("hashtextextended(row({})::text, 0)", table.column_list())
}
