-- What the relay has published last, and where it is in the stream. JetStream acknowledges a message before it syncs it
-- to the disk, and an operator may set its store back to a copy: then the stream lacks messages that left the queue.
-- The relay compares the stream with this, and publishes the missing ones again, in the order and with the sequences
-- that they had.

create table journal_published (
    sequence bigint primary key,
    queue_id bigint not null,
    journal_id bigint not null,
    recorded_at timestamptz not null,
    replay boolean not null
);

-- The end of the stream, as its last acknowledgement says.
create table journal_stream (
    is_only boolean primary key default true check (is_only),
    incarnation text not null,
    sequence bigint not null
);

-- More than an hour at 200 changes per second, and about 90 MB.
create function journal_published_rows_max() returns bigint
language sql immutable as $$ select 1000000::bigint $$;

-- Records published rows, which leave the queue.
create function record_published(queue_ids bigint[], sequences bigint[]) returns void
language sql as $$
    with published as (
        delete from journal_queue where id = any(queue_ids) returning id, journal_id, recorded_at, replay
    ), recorded as (
        insert into journal_published (sequence, queue_id, journal_id, recorded_at, replay)
        select stored.sequence, id, journal_id, recorded_at, replay
        from published inner join unnest(queue_ids, sequences) as stored (queue_id, sequence) on queue_id = id
        -- NATS has dropped a duplicate: the first one is recorded.
        on conflict (sequence) do nothing
    )
    update journal_stream
    set sequence = greatest(sequence, (select max(stored) from unnest(sequences) as stored))
$$;

-- Queues again what a stream has lost. `last_sequence` is its last message; 0 of an empty stream. Returns the number of
-- queued rows, and that of lost messages that are not recorded any more.
create function restore_lost(stream_incarnation text, last_sequence bigint, out restored bigint, out missing bigint)
language plpgsql as $$
declare
    known journal_stream%rowtype;
begin
    restored := 0;
    missing := 0;
    select * into known from journal_stream for update;
    if known.incarnation is null then
        insert into journal_stream (incarnation, sequence) values (stream_incarnation, last_sequence);
        return;
    elsif known.incarnation = stream_incarnation and last_sequence >= known.sequence then
        return;
    end if;
    -- A new stream that is not empty is a copy of the former one.
    if known.incarnation = stream_incarnation or last_sequence = 0 then
        with lost as (
            delete from journal_published where sequence > last_sequence returning *
        ), queued as (
            -- With their former ids: before everything that waits, and in their former order.
            insert into journal_queue (id, journal_id, recorded_at, replay) overriding system value
            select queue_id, journal_id, recorded_at, replay from lost
            where exists (
                select from journal where journal.recorded_at = lost.recorded_at and journal.id = lost.journal_id
            )
            on conflict do nothing
            returning 1
        )
        select count(*) into restored from queued;
        missing := known.sequence - last_sequence - restored;
    else
        delete from journal_published;
    end if;
    update journal_stream set incarnation = stream_incarnation, sequence = last_sequence;
end
$$;
