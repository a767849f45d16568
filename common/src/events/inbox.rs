//! The SQL of the inbox: store events, find those that are due, record the results.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use super::{journal_row::journal_id, stream::StreamMessage};

/// An event in the inbox.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredEvent {
    pub(super) id: i64,
    pub stream: String,
    pub sequence: i64,
    pub message_id: String,
    /// The type of the event, such as `user_changed`.
    pub kind: String,
    pub entity_id: String,
    pub version: i64,
    pub event_time: DateTime<Utc>,
    pub payload: Value,
    /// The number of failed attempts.
    pub attempts: i32,
}

impl StoredEvent {
    /// Parses the event, for example as `flack_api::events::Event` of the owner's union.
    pub fn decode<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(&self.payload).with_context(|| format!("{} is not a known event", self.message_id))
    }

    pub fn correlation_id(&self) -> Option<&str> {
        self.payload.get("correlation_id").and_then(Value::as_str)
    }

    /// Returns the epoch of the owner that made the change; 0 if its version did not write one.
    fn epoch(&self) -> i64 {
        self.payload.get("epoch").and_then(Value::as_i64).unwrap_or(0)
    }

    /// Returns a number that grows with the changes of one entity by one owner, also across a delete and a new insert.
    fn journal_id(&self) -> anyhow::Result<i64> {
        let event_id = self.payload.get("id").and_then(Value::as_str).context("the event has no id")?;
        journal_id(event_id).with_context(|| format!("the event id {event_id} does not end in a number"))
    }
}

/// The fields that every event has.
#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    time: DateTime<Utc>,
    version: i64,
}

/// Returns the incarnation and the last stored sequence of a stream.
pub(super) async fn offset(connection: &mut PgConnection, stream: &str) -> sqlx::Result<Option<(String, i64)>> {
    sqlx::query_as("select incarnation, sequence from inbox_offset where stream = $1")
        .bind(stream)
        .fetch_optional(connection)
        .await
}

pub(super) async fn set_offset(
    connection: &mut PgConnection,
    stream: &str,
    incarnation: &str,
    sequence: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into inbox_offset (stream, incarnation, sequence) values ($1, $2, $3)
        on conflict (stream) do update
        set incarnation = excluded.incarnation, sequence = excluded.sequence, updated_at = clock_timestamp()",
    )
    .bind(stream)
    .bind(incarnation)
    .bind(sequence)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the kind of events that the consumer subscribes to, for `mf events lag`.
pub(super) async fn set_kind(connection: &mut PgConnection, stream: &str, kind: Option<&str>) -> sqlx::Result<()> {
    sqlx::query("update inbox_offset set kind = $2 where stream = $1 and kind is distinct from $2")
        .bind(stream)
        .bind(kind)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores the messages that are not stored yet, in their order; returns how many.
pub(super) async fn store(
    connection: &mut PgConnection,
    stream: &str,
    messages: &[StreamMessage],
) -> sqlx::Result<u64> {
    let (mut times, mut sequences, mut ids, mut kinds) = (vec![], vec![], vec![], vec![]);
    let (mut entities, mut versions, mut payloads, mut errors) = (vec![], vec![], vec![], vec![]);
    for message in messages {
        // flack.<owner>.<kind>.<entity id>
        let mut subject = message.subject.splitn(4, '.').skip(2);
        let subject_kind = subject.next().unwrap_or("unknown").to_owned();
        entities.push(subject.next().unwrap_or_default().to_owned());
        sequences.push(i64::try_from(message.sequence).unwrap_or(i64::MAX));
        match serde_json::from_slice::<Value>(&message.payload)
            .and_then(|value| Envelope::deserialize(&value).map(|envelope| (value, envelope)))
        {
            Ok((value, envelope)) => {
                times.push(envelope.time);
                ids.push(message.message_id.clone().unwrap_or(envelope.id));
                kinds.push(envelope.kind);
                versions.push(envelope.version);
                payloads.push(value);
                errors.push(None);
            }
            // Not an event: stored as a dead letter for an operator, so that the consumer goes on.
            Err(problem) => {
                times.push(Utc::now());
                ids.push(message.message_id.clone().unwrap_or_else(|| format!("{stream}:{}", message.sequence)));
                kinds.push(subject_kind);
                versions.push(0);
                payloads.push(json!({ "text": String::from_utf8_lossy(&message.payload).replace('\0', "") }));
                errors.push(Some(format!("not an event: {problem}")));
            }
        }
    }
    let stored = sqlx::query(
        "insert into inbox (event_time, stream, sequence, message_id, kind, entity_id, version, payload, state, error)
        select event_time, $1, sequence, message_id, kind, entity_id, version, payload,
            case when error is null then 'waiting' else 'dead' end, error
        from unnest(
            $2::timestamptz[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::jsonb[], $9::text[]
        ) with ordinality
            as arrived (event_time, sequence, message_id, kind, entity_id, version, payload, error, position)
        order by position
        on conflict do nothing",
    )
    .bind(stream)
    .bind(times)
    .bind(sequences)
    .bind(ids)
    .bind(kinds)
    .bind(entities)
    .bind(versions)
    .bind(payloads)
    .bind(errors)
    .execute(connection)
    .await?;
    Ok(stored.rows_affected())
}

/// Returns events that can be processed now, in order. An event waits while an older event of its entity waits for a
/// retry.
pub(super) async fn due(connection: &mut PgConnection, stream: &str, limit: i64) -> sqlx::Result<Vec<StoredEvent>> {
    sqlx::query_as(
        "select id, stream, sequence, message_id, kind, entity_id, version, event_time, payload, attempts
        from inbox as event
        where stream = $1 and state = 'waiting' and next_attempt_at <= clock_timestamp()
            and not exists (
                select from inbox as older
                where older.stream = event.stream and older.kind = event.kind and older.entity_id = event.entity_id
                    and older.state = 'waiting' and older.id < event.id and older.next_attempt_at > clock_timestamp()
            )
        order by id
        limit $2",
    )
    .bind(stream)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Returns the seconds until the next retry is due.
pub(super) async fn next_due_seconds(connection: &mut PgConnection, stream: &str) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar(
        "select extract(epoch from min(next_attempt_at) - clock_timestamp())::float8
        from inbox where stream = $1 and state = 'waiting'",
    )
    .bind(stream)
    .fetch_one(connection)
    .await
}

/// Waits until no consumer of another stream processes events of this kind: both sides of a part publish the same
/// entities, and each must see what the other has recorded.
pub(super) async fn lock_kind(transaction: &mut Transaction<'_, Postgres>, kind: Option<&str>) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('inbox_entity'), hashtext($1))")
        .bind(kind.unwrap_or_default())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Records the event as its entity's newest change, and its correlation id as that of the transaction's next writes,
/// for the journal. Returns false when this change or a newer one is recorded already, by (epoch, journal id). Two
/// owners never have the same epoch, so their journal ids are not compared.
pub(super) async fn advance(transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<bool> {
    let advanced = sqlx::query(
        "with advanced as (
            insert into inbox_entity as processed (stream, kind, entity_id, journal_id, version, epoch)
            select $1, $2, $3, $4, $5, $6
            where not exists (
                select from inbox_offset
                inner join inbox_entity as other using (stream)
                where stream <> $1 and other.kind = $2 and other.entity_id = $3 and other.epoch > $6
            )
            on conflict (stream, kind, entity_id) do update
            set journal_id = excluded.journal_id, version = excluded.version, epoch = excluded.epoch
            where (processed.epoch, processed.journal_id) < (excluded.epoch, excluded.journal_id)
            returning 1
        )
        select set_config('flack.correlation_id', $7, true) from advanced",
    )
    .bind(&event.stream)
    .bind(&event.kind)
    .bind(&event.entity_id)
    .bind(event.journal_id()?)
    .bind(event.version)
    .bind(event.epoch())
    .bind(event.correlation_id().unwrap_or_default())
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(advanced.is_some())
}

/// Sets the state of processed events: `done` for true, `ignored` for false.
pub(super) async fn finish(connection: &mut PgConnection, events: &[(&StoredEvent, bool)]) -> sqlx::Result<()> {
    let times: Vec<_> = events.iter().map(|(event, _)| event.event_time).collect();
    let ids: Vec<_> = events.iter().map(|(event, _)| event.id).collect();
    let states: Vec<_> = events.iter().map(|(_, done)| if *done { "done" } else { "ignored" }).collect();
    sqlx::query(
        "update inbox set state = outcome.state, processed_at = clock_timestamp(), error = null
        from unnest($1::timestamptz[], $2::bigint[], $3::text[]) as outcome (event_time, id, state)
        where inbox.event_time = outcome.event_time and inbox.id = outcome.id",
    )
    .bind(times)
    .bind(ids)
    .bind(states)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records a failure. The event is due again after `retry_seconds`; with `None` it becomes a dead letter.
pub(super) async fn fail(
    connection: &mut PgConnection,
    event: &StoredEvent,
    error: &str,
    retry_seconds: Option<f64>,
) -> sqlx::Result<()> {
    sqlx::query(
        "update inbox set attempts = attempts + 1, error = $3,
            state = case when $4::float8 is null then 'dead' else 'waiting' end,
            processed_at = case when $4::float8 is null then clock_timestamp() end,
            next_attempt_at = clock_timestamp() + make_interval(secs => coalesce($4, 0))
        where event_time = $1 and id = $2",
    )
    .bind(event.event_time)
    .bind(event.id)
    .bind(error)
    .bind(retry_seconds)
    .execute(connection)
    .await?;
    Ok(())
}
