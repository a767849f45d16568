//! The SQL of the inbox.

use chrono::{DateTime, Utc};
use flack_common::events::{JOURNAL_RETENTION_DAYS, stream_name};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{
    cursor::{Offset, SOURCES, STREAMS},
    limits::BACKFILL_PAGE_ROWS,
};

/// How far back clients can resume. A day less than partitions are kept, so that no partition is dropped while a client
/// reads it.
const RESUME_DAYS: i32 = JOURNAL_RETENTION_DAYS - 1;

/// The inbox table.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub pool: PgPool,
}

/// The events of one stream that the inbox holds: those after sequence `after`, up to `last`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRange {
    pub after: u64,
    pub last: Offset,
}

/// An event that will be stored.
#[derive(Debug)]
pub struct NewRow {
    pub stream: usize,
    pub sequence: u64,
    pub event_time: DateTime<Utc>,
    pub message_id: String,
    pub kind: String,
    pub entity_id: String,
    pub version: i64,
    pub payload: String,
}

/// A stored event.
#[derive(Debug, sqlx::FromRow)]
pub struct InboxRow {
    /// Grows in the order in which the events were stored.
    pub id: i64,
    stream: String,
    sequence: i64,
    pub payload: Value,
    /// Whether the client has received the same version of the entity from another stream, before it reconnected.
    pub is_duplicate: bool,
}

impl InboxRow {
    /// Returns the stream, as an index in [`SOURCES`], and the sequence.
    pub fn stream_and_sequence(&self) -> Option<(usize, u64)> {
        let stream = SOURCES.iter().position(|source| stream_name(source) == self.stream)?;
        Some((stream, unsigned(self.sequence)))
    }
}

impl Inbox {
    /// Counts the events of all streams after `after`, up to `until`. Stops at `max`.
    pub async fn count(&self, after: [u64; STREAMS], until: [u64; STREAMS], max: i64) -> sqlx::Result<i64> {
        sqlx::query_scalar(
            "select count(*) from (
                select from unnest($1::text[], $2::bigint[], $3::bigint[]) as missed (stream, after, until)
                inner join inbox as event on event.stream = missed.stream
                    and event.sequence > missed.after and event.sequence <= missed.until
                limit $4
            ) as counted",
        )
        .bind(streams())
        .bind(after.map(signed))
        .bind(until.map(signed))
        .bind(max)
        .fetch_one(&self.pool)
        .await
    }

    /// Returns a page of the events of all streams after `after`, up to `until`, in the order in which they were
    /// stored. `after` is what the client has received. The page begins after the row `after_id`.
    pub async fn page(
        &self,
        after: [u64; STREAMS],
        until: [u64; STREAMS],
        after_id: i64,
    ) -> sqlx::Result<Vec<InboxRow>> {
        sqlx::query_as(
            "select event.id, event.stream, event.sequence, event.payload,
                exists (
                    select from inbox as other
                    inner join unnest($1::text[], $2::bigint[]) as received (stream, sequence)
                        on received.stream = other.stream and other.sequence <= received.sequence
                    where other.entity_id = event.entity_id and other.kind = event.kind
                        and other.version = event.version and other.stream <> event.stream
                ) as is_duplicate
            from unnest($1::text[], $2::bigint[], $3::bigint[]) as missed (stream, after, until)
            inner join inbox as event on event.stream = missed.stream
                and event.sequence > missed.after and event.sequence <= missed.until
            where event.id > $4
            order by event.id
            limit $5",
        )
        .bind(streams())
        .bind(after.map(signed))
        .bind(until.map(signed))
        .bind(after_id)
        .bind(BACKFILL_PAGE_ROWS)
        .fetch_all(&self.pool)
        .await
    }

    /// Shortens the stored ranges: they then begin after the events whose partitions are dropped within a day.
    pub async fn shorten_stored_ranges(&self) -> sqlx::Result<()> {
        sqlx::query(
            "update inbox_retained as retained set after_sequence = old.sequence
            from (
                select stream, max(sequence) as sequence
                from inbox where event_time < now() - make_interval(days => $1) group by stream
            ) as old
            where old.stream = retained.stream and old.sequence > retained.after_sequence",
        )
        .bind(RESUME_DAYS)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Returns the stored range of each stream; `None` for a stream that was never read.
pub async fn stored_ranges(executor: impl PgExecutor<'_>) -> sqlx::Result<[Option<StoredRange>; STREAMS]> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select position.stream, position.incarnation, position.sequence, retained.after_sequence
        from inbox_offset as position
        inner join inbox_retained as retained using (stream)",
    )
    .fetch_all(executor)
    .await?;
    Ok(std::array::from_fn(|stream| {
        let name = stream_name(SOURCES[stream]);
        let (_, incarnation, sequence, after) = rows.iter().find(|(stream, ..)| *stream == name)?;
        let last = Offset { incarnation: Some(incarnation.as_str().into()), sequence: unsigned(*sequence) };
        Some(StoredRange { after: unsigned(*after), last })
    }))
}

/// Sets the stored range of a stream.
pub async fn set_stored_range(connection: &mut PgConnection, stream: usize, range: &StoredRange) -> sqlx::Result<()> {
    sqlx::query(
        "with retained as (
            insert into inbox_retained (stream, after_sequence) values ($1, $2)
            on conflict (stream) do update set after_sequence = excluded.after_sequence
            where inbox_retained.after_sequence is distinct from excluded.after_sequence
        )
        insert into inbox_offset (stream, incarnation, sequence) values ($1, $3, $4)
        on conflict (stream) do update
        set incarnation = excluded.incarnation, sequence = excluded.sequence, updated_at = clock_timestamp()",
    )
    .bind(stream_name(SOURCES[stream]))
    .bind(signed(range.after))
    .bind(range.last.incarnation.as_deref())
    .bind(signed(range.last.sequence))
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the events of a stream after `sequence`. The stream was reset, and its next messages get these sequences.
pub async fn delete_after(connection: &mut PgConnection, stream: usize, sequence: u64) -> sqlx::Result<()> {
    // It usually deletes nothing. After NATS lost its data, it deletes all rows of the stream.
    sqlx::query("set local statement_timeout = '10min'").execute(&mut *connection).await?;
    sqlx::query("delete from inbox where stream = $1 and sequence > $2")
        .bind(stream_name(SOURCES[stream]))
        .bind(signed(sequence))
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores events in the given order, except those that are stored already. Returns how many it stored.
pub async fn insert(connection: &mut PgConnection, rows: &[NewRow]) -> sqlx::Result<u64> {
    let texts = |text: fn(&NewRow) -> String| rows.iter().map(text).collect::<Vec<_>>();
    let stored = sqlx::query(
        "insert into inbox
            (event_time, stream, sequence, message_id, kind, entity_id, version, payload, state, processed_at)
        select event_time, stream, sequence, message_id, kind, entity_id, version, payload::jsonb, 'done',
            clock_timestamp()
        from unnest(
            $1::timestamptz[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[]
        ) with ordinality
            as new (event_time, stream, sequence, message_id, kind, entity_id, version, payload, arrival)
        order by arrival
        on conflict do nothing",
    )
    .bind(rows.iter().map(|row| row.event_time).collect::<Vec<_>>())
    .bind(texts(|row| stream_name(SOURCES[row.stream])))
    .bind(rows.iter().map(|row| signed(row.sequence)).collect::<Vec<_>>())
    .bind(texts(|row| row.message_id.clone()))
    .bind(texts(|row| row.kind.clone()))
    .bind(texts(|row| row.entity_id.clone()))
    .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
    .bind(texts(|row| row.payload.clone()))
    .execute(connection)
    .await?;
    Ok(stored.rows_affected())
}

fn streams() -> [String; STREAMS] {
    std::array::from_fn(|stream| stream_name(SOURCES[stream]))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
