-- While NATS is away the queue grows, and the journal with it. Writes go on until it holds this many rows; then they are refused
-- (503 to the client) rather than that the disk fills up, which would take the reads as well.

-- A million changes and their journal rows take about 1 GB: at 200 changes a second, more than an hour without NATS.
-- Counted by the queue's numbers: those of rolled back transactions count as well.
create function journal_queue_rows_max() returns bigint
language sql immutable as $$ select 1000000::bigint $$;

-- The oldest row that is still to be told, without looking at those that were set aside. What an operator queues again
-- does not count: it is in the journal already, and must not stop the app.
create index journal_queue_waiting on journal_queue (id) where failed_at is null and not replay;

-- One look at an index for each row, whatever the length of the queue: so far behind the newest row there is nothing but in
-- a queue that is full, and vacuum was there long ago.
create function journal_queue_limit() returns trigger
language plpgsql as $$
begin
    if not new.replay and exists (
        select from journal_queue
        where id <= new.id - journal_queue_rows_max() and failed_at is null and not replay
    ) then
        -- FLQ01 is ours; `flack_common::database::problem` knows it.
        raise exception 'journal_queue holds as many rows as it may: events cannot be published'
            using errcode = 'FLQ01', hint = 'See why NATS does not take events. Writes go on as soon as it does.';
    end if;
    return null;
end
$$;

create trigger journal_queue_limit after insert on journal_queue for each row execute function journal_queue_limit();
