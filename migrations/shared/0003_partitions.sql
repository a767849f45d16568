-- Daily partitions (UTC) of the journal and the inbox: created ahead, dropped when they are old and all their rows are
-- processed. A drop is one change of the catalog; a delete of millions of rows would leave work for vacuum.

create function make_partitions(parent text, days_ahead integer) returns integer
language plpgsql as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    day date;
    child text;
    made integer := 0;
begin
    for day in select generate_series(today, today + days_ahead, interval '1 day')::date loop
        child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
        continue when to_regclass(child) is not null;
        begin
            -- Created as a table of its own and then attached: that blocks neither reads nor writes of the parent.
            execute format('create table %I (like %I including defaults including constraints)', child, parent);
            execute format(
                'alter table %I attach partition %I for values from (%L) to (%L)',
                parent, child,
                day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC'
            );
            made := made + 1;
        exception when check_violation then
            -- Rows of that day are in the default partition already; they stay there until they are deleted.
            raise warning '%_default has rows of %: that day gets no partition', parent, day;
        end;
    end loop;
    return made;
end
$$;

-- `still_needed` is a condition on a row `item`; a partition with such a row is kept.
create function drop_partitions(parent text, days_kept integer, still_needed text) returns integer
language plpgsql as $$
declare
    oldest timestamptz := ((clock_timestamp() at time zone 'UTC')::date - days_kept)::timestamp at time zone 'UTC';
    child record;
    needed boolean;
    dropped integer := 0;
begin
    for child in
        select class.relname as name, substring(class.relname from '_(\d{8})$') as day
        from pg_inherits
        inner join pg_class as class on class.oid = pg_inherits.inhrelid
        where pg_inherits.inhparent = parent::regclass
        order by class.relname
    loop
        if child.day is null then
            execute format('delete from %I as item where %s < $1 and not (%s)', child.name,
                case parent when 'inbox' then 'event_time' else 'recorded_at' end, still_needed) using oldest;
        elsif to_date(child.day, 'YYYYMMDD')::timestamp at time zone 'UTC' < oldest then
            execute format('select exists (select from %I as item where %s)', child.name, still_needed) into needed;
            if needed then
                raise warning 'partition % is old, but has rows that are not processed: it is kept', child.name;
            else
                execute format('drop table %I', child.name);
                dropped := dropped + 1;
            end if;
        end if;
    end loop;
    return dropped;
end
$$;

-- Called by a background task of every instance; while one runs it, the others return without doing anything.
create function maintain_partitions(days_ahead integer, journal_days integer, inbox_days integer)
returns table (made integer, dropped integer)
language plpgsql as $$
begin
    if not pg_try_advisory_xact_lock(hashtext('maintain_partitions')) then
        return query select 0, 0;
        return;
    end if;
    made := make_partitions('journal', days_ahead) + make_partitions('inbox', days_ahead);
    dropped := drop_partitions('journal', journal_days,
            'exists (select from journal_queue as queue'
                ' where queue.journal_id = item.id and queue.recorded_at = item.recorded_at'
                ' and queue.failed_at is null)')
        + drop_partitions('inbox', inbox_days, 'item.state = ''waiting''');
    return next;
end
$$;

-- For the first rows, which may come before the first run of the task.
select make_partitions('journal', 2), make_partitions('inbox', 2);
