-- The inbox: events of other services' streams, stored before they are processed, with the result.

create table inbox (
    -- The order of arrival. It is the order of the stream, also when NATS has lost the stream and its sequence begins
    -- at 1.
    id bigint generated always as identity,
    -- When the owner recorded the change. The key must contain the partition column, and an event that arrives again
    -- has the same time: so the key refuses an event that is stored already.
    event_time timestamptz not null,
    stream text not null,
    -- The sequence of the message in the stream.
    sequence bigint not null,
    -- `Nats-Msg-Id`: "<owner>-<journal id>", with a suffix for a replay.
    message_id text not null,
    kind text not null,
    entity_id text not null,
    version bigint not null,
    payload jsonb not null,
    received_at timestamptz not null default clock_timestamp(),
    state text not null default 'waiting' check (state in ('waiting', 'done', 'ignored', 'dead')),
    processed_at timestamptz,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    error text,
    primary key (event_time, stream, message_id)
) partition by range (event_time);

-- The next event, and whether an older event of the same entity is waiting. Small: they contain no processed events.
create index inbox_waiting on inbox (stream, id) where state = 'waiting';
create index inbox_waiting_entity on inbox (stream, kind, entity_id, id) where state = 'waiting';
create index inbox_dead on inbox (stream, id) where state = 'dead';

create table inbox_default partition of inbox default;

-- The offset up to which each stream is stored. Written in the transaction that stores the events: after a crash the
-- consumer continues exactly after the last stored event. `incarnation` changes when NATS has lost the stream and it
-- begins again.
create table inbox_offset (
    stream text primary key,
    incarnation text not null,
    sequence bigint not null,
    updated_at timestamptz not null default now(),
    -- The kind of events that the consumer subscribes to; null means all. `mf events lag` counts only these.
    kind text
);

-- The newest processed change of each entity; an event that is not newer is ignored. Compares journal ids, because
-- `version` begins at 1 again when a deleted key is inserted again. To rebuild a projection, clear it together with its
-- rows here.
create table inbox_entity (
    stream text not null,
    kind text not null,
    entity_id text not null,
    journal_id bigint not null,
    version bigint not null,
    primary key (stream, kind, entity_id)
) with (fillfactor = 80);
