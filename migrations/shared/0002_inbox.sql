-- The inbox: what arrived from other owners' streams, stored before it is processed, with the outcome.

create table inbox (
    -- In order of arrival, which is the order of the stream also when NATS lost it and began at sequence 1 again.
    id bigint generated always as identity,
    -- When the owner recorded the change. The partition's column must be part of the key, and the same event has always the
    -- same time: that makes the key refuse what was stored before.
    event_time timestamptz not null,
    stream text not null,
    -- The stream's sequence number, to find the message there.
    sequence bigint not null,
    -- `Nats-Msg-Id`: "<owner>-<journal id>", with a suffix when it was replayed.
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

-- What is to be done next, and whether something older of the same entity still waits. Small: done rows are not in it.
create index inbox_waiting on inbox (stream, id) where state = 'waiting';
create index inbox_waiting_entity on inbox (stream, kind, entity_id, id) where state = 'waiting';
create index inbox_dead on inbox (stream, id) where state = 'dead';

create table inbox_default partition of inbox default;

-- How far each stream was read. Written in the transaction that stores what was read: after a crash reading goes on exactly
-- behind the last stored event. `incarnation` tells a stream that lost its data and began anew from the one we knew.
create table inbox_position (
    stream text primary key,
    incarnation text not null,
    sequence bigint not null,
    updated_at timestamptz not null default now()
);

-- The newest change of each entity that was processed: what is not newer is ignored. Journal ids of one entity grow with
-- its changes. To rebuild a derived copy: empty it together with its rows here, then replay.
create table inbox_entity (
    stream text not null,
    kind text not null,
    entity_id text not null,
    journal_id bigint not null,
    version bigint not null,
    primary key (stream, kind, entity_id)
) with (fillfactor = 80);
