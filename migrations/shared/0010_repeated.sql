-- Rows that the relay publishes again because the stream has lost them. Clients have loaded what they say.
alter table journal_queue add column is_repeated boolean not null default false;

create or replace function restore_lost(
    stream_incarnation text, last_sequence bigint, out restored bigint, out missing bigint
)
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
            insert into journal_queue (id, journal_id, recorded_at, replay, is_repeated) overriding system value
            select queue_id, journal_id, recorded_at, replay, true from lost
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
