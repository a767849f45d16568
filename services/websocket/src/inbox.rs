//! The inbox: what clients were told, in the order in which it came, for those who come back with a cursor that is older
//! than what memory holds. All the SQL of it.
//!
//! Of each stream the inbox holds all behind its floor and up to its position. The keeper writes (`keeper`), here is read.

use std::{collections::HashSet, time::Duration};

use axum::extract::ws::Utf8Bytes;
use chrono::{DateTime, Utc};
use flack_api::events::{Event, MonolithEvent};
use flack_common::events::{JOURNAL_RETENTION_DAYS, stream_of};
use serde::Deserialize as _;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};
use tracing::error;

use crate::{
    cursor::{Cursor, OWNERS, STREAMS},
    entry::{EntityVersion, told_of, with_cursor},
    limits::{RESUME_CHUNK_FRAMES, RESUME_OVERLAP_MESSAGES},
    ring::Reach,
};

/// How far back clients can resume. A day less than the partitions are kept: nothing is dropped that is still offered.
const RESUME_DAYS: i32 = JOURNAL_RETENTION_DAYS - 1;
/// Between looks whether the keeper has come further.
const LAG_PAUSE: Duration = Duration::from_millis(25);

#[derive(Debug, Clone)]
pub struct Inbox {
    pool: PgPool,
}

/// One row of it.
#[derive(Debug)]
pub struct Kept {
    pub stream: usize,
    pub sequence: u64,
    pub event_time: DateTime<Utc>,
    pub message_id: String,
    pub kind: String,
    pub entity_id: String,
    pub version: i64,
    pub payload: String,
}

/// How far the inbox holds one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    pub incarnation: String,
    /// All behind this is held.
    pub floor: u64,
    pub position: u64,
}

/// What one client missed, on its way to it.
#[derive(Debug)]
pub struct Recollection {
    inbox: Inbox,
    /// Where the client stands now.
    cursor: Cursor,
    /// Where it stood when it came.
    had: [u64; STREAMS],
    /// What is read of each stream: behind `had`, up to this. 0: nothing.
    until: [u64; STREAMS],
    /// The last row that was read, in order of arrival.
    last_id: i64,
    told: HashSet<EntityVersion>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    stream: String,
    sequence: i64,
    payload: Value,
    twin_was_had: bool,
}

impl Inbox {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// What is missing between `cursor` and what the ring holds. `None` when the inbox does not hold that, also not within
    /// `patience`, or when it is more than `frames_max`.
    pub async fn recall(
        &self,
        cursor: &Cursor,
        reach: impl Fn() -> Reach,
        frames_max: i64,
        patience: Duration,
    ) -> sqlx::Result<Option<Recollection>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(until) = self.extent_of(cursor, &reach()).await? {
                let recollection = Recollection {
                    inbox: self.clone(),
                    cursor: cursor.clone(),
                    had: std::array::from_fn(|stream| cursor.0[stream].sequence),
                    until,
                    last_id: 0,
                    told: HashSet::new(),
                };
                let is_too_much = recollection.count(frames_max + 1).await? > frames_max;
                return Ok((!is_too_much).then_some(recollection));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(LAG_PAUSE).await;
        }
    }

    /// Up to where each stream is to be read so that the ring has the rest; `None` when that is not to be had.
    async fn extent_of(&self, cursor: &Cursor, reach: &Reach) -> sqlx::Result<Option<[u64; STREAMS]>> {
        let held: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "select position.stream, position.incarnation, floor.sequence, position.sequence
            from inbox_position as position
            inner join inbox_floor as floor using (stream)",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut until = [0; STREAMS];
        for (index, owner) in OWNERS.into_iter().enumerate() {
            let (place, ring_floor) = (&cursor.0[index], reach.floors[index]);
            if place.sequence >= ring_floor {
                continue;
            }
            let ours = &reach.cursor.0[index];
            let Some((_, incarnation, floor, position)) =
                held.iter().find(|(stream, ..)| *stream == stream_of(owner))
            else {
                return Ok(None);
            };
            let (floor, position) = (unsigned(*floor), unsigned(*position));
            if ours.incarnation.as_ref() != Some(incarnation)
                || place.sequence < floor
                || position < ring_floor
            {
                return Ok(None);
            }
            // Not further than the ring: what it has not read it cannot know for a twin.
            until[index] = position.min(ours.sequence).min(ring_floor + RESUME_OVERLAP_MESSAGES);
        }
        Ok(Some(until))
    }

    /// What is too old may be dropped from now on, and is offered no more.
    pub async fn raise_floors(&self) -> sqlx::Result<()> {
        sqlx::query(
            "update inbox_floor as floor set sequence = old.sequence
            from (
                select stream, max(sequence) as sequence
                from inbox where event_time < now() - make_interval(days => $1) group by stream
            ) as old
            where old.stream = floor.stream and old.sequence > floor.sequence",
        )
        .bind(RESUME_DAYS)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Recollection {
    /// Where the client stands: at the end of all, where the ring is to go on.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    async fn count(&self, max: i64) -> sqlx::Result<i64> {
        let (streams, after, until) = self.ranges();
        sqlx::query_scalar(
            "select count(*) from (
                select from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (stream, after, until)
                inner join inbox as event on event.stream = wanted.stream
                    and event.sequence > wanted.after and event.sequence <= wanted.until
                limit $4
            ) as counted",
        )
        .bind(streams)
        .bind(after)
        .bind(until)
        .bind(max)
        .fetch_one(&self.inbox.pool)
        .await
    }

    /// The next frames, in the order in which the events came. `None` when the client has had all that the inbox has for it.
    pub async fn next(&mut self) -> sqlx::Result<Option<Vec<Utf8Bytes>>> {
        let (streams, after, until) = self.ranges();
        let rows: Vec<Row> = sqlx::query_as(
            "select event.id, event.stream, event.sequence, event.payload,
                exists (
                    select from inbox as twin
                    inner join unnest($1::text[], $2::bigint[]) as had (stream, sequence)
                        on had.stream = twin.stream and twin.sequence <= had.sequence
                    where twin.entity_id = event.entity_id and twin.kind = event.kind
                        and twin.version = event.version and twin.stream <> event.stream
                ) as twin_was_had
            from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (stream, after, until)
            inner join inbox as event on event.stream = wanted.stream
                and event.sequence > wanted.after and event.sequence <= wanted.until
            where event.id > $4
            order by event.id
            limit $5",
        )
        .bind(streams)
        .bind(after)
        .bind(until)
        .bind(self.last_id)
        .bind(RESUME_CHUNK_FRAMES)
        .fetch_all(&self.inbox.pool)
        .await?;
        if rows.is_empty() {
            for (place, until) in self.cursor.0.iter_mut().zip(self.until) {
                place.sequence = place.sequence.max(until);
            }
            return Ok(None);
        }
        let mut frames = Vec::with_capacity(rows.len());
        for row in rows {
            self.last_id = row.id;
            frames.extend(self.frame(&row));
        }
        Ok(Some(frames))
    }

    fn frame(&mut self, row: &Row) -> Option<Utf8Bytes> {
        let stream = OWNERS.iter().position(|owner| stream_of(owner) == row.stream)?;
        self.cursor.0[stream].sequence = unsigned(row.sequence);
        let told = match Event::<MonolithEvent>::deserialize(&row.payload).and_then(told_of) {
            Ok(told) => told?,
            Err(problem) => {
                error!(stream = row.stream, sequence = row.sequence, %problem, "not an event that we know; clients are not told");
                return None;
            }
        };
        let is_new = self.told.insert(told.version) && !row.twin_was_had;
        is_new.then(|| with_cursor(&told.model, &self.cursor).into())
    }

    fn ranges(&self) -> (Vec<String>, Vec<i64>, Vec<i64>) {
        let streams = OWNERS.into_iter().map(stream_of).collect();
        (streams, self.had.map(signed).to_vec(), self.until.map(signed).to_vec())
    }
}

/// The streams' extents, in the order of `OWNERS`; `None` for one that was never read.
pub async fn extents(connection: &mut PgConnection) -> sqlx::Result<[Option<Extent>; STREAMS]> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select position.stream, position.incarnation, floor.sequence, position.sequence
        from inbox_position as position
        inner join inbox_floor as floor using (stream)",
    )
    .fetch_all(connection)
    .await?;
    Ok(OWNERS.map(|owner| {
        let row = rows.iter().find(|(stream, ..)| *stream == stream_of(owner));
        row.map(|(_, incarnation, floor, position)| Extent {
            incarnation: incarnation.clone(),
            floor: unsigned(*floor),
            position: unsigned(*position),
        })
    }))
}

pub async fn set_extent(connection: &mut PgConnection, stream: usize, extent: &Extent) -> sqlx::Result<()> {
    sqlx::query(
        "with floor as (
            insert into inbox_floor (stream, sequence) values ($1, $3)
            on conflict (stream) do update set sequence = excluded.sequence
            where inbox_floor.sequence is distinct from excluded.sequence
        )
        insert into inbox_position (stream, incarnation, sequence) values ($1, $2, $4)
        on conflict (stream) do update
        set incarnation = excluded.incarnation, sequence = excluded.sequence, updated_at = clock_timestamp()",
    )
    .bind(stream_of(OWNERS[stream]))
    .bind(&extent.incarnation)
    .bind(signed(extent.floor))
    .bind(signed(extent.position))
    .execute(connection)
    .await?;
    Ok(())
}

/// What a stream that began anew will number again.
pub async fn forget_behind(connection: &mut PgConnection, stream: usize, sequence: u64) -> sqlx::Result<()> {
    // Most often nothing; after NATS lost its disk, two weeks of events.
    sqlx::query("set local statement_timeout = '10min'").execute(&mut *connection).await?;
    sqlx::query("delete from inbox where stream = $1 and sequence > $2")
        .bind(stream_of(OWNERS[stream]))
        .bind(signed(sequence))
        .execute(connection)
        .await?;
    Ok(())
}

/// In the order in which they came. What is there is left alone.
pub async fn store(connection: &mut PgConnection, rows: &[Kept]) -> sqlx::Result<u64> {
    let each = |text: fn(&Kept) -> String| rows.iter().map(text).collect::<Vec<_>>();
    let stored = sqlx::query(
        "insert into inbox (event_time, stream, sequence, message_id, kind, entity_id, version, payload, state, processed_at)
        select event_time, stream, sequence, message_id, kind, entity_id, version, payload::jsonb, 'done', clock_timestamp()
        from unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[])
            with ordinality as arrived (event_time, stream, sequence, message_id, kind, entity_id, version, payload, place)
        order by place
        on conflict do nothing",
    )
    .bind(rows.iter().map(|row| row.event_time).collect::<Vec<_>>())
    .bind(each(|row| stream_of(OWNERS[row.stream])))
    .bind(rows.iter().map(|row| signed(row.sequence)).collect::<Vec<_>>())
    .bind(each(|row| row.message_id.clone()))
    .bind(each(|row| row.kind.clone()))
    .bind(each(|row| row.entity_id.clone()))
    .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
    .bind(each(|row| row.payload.clone()))
    .execute(connection)
    .await?;
    Ok(stored.rows_affected())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
