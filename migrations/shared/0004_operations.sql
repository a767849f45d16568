-- Functions for operators, called by `mf events`. A replay works in portions and returns where each portion ended: a
-- large replay must neither delay new events in the queue nor hold locks for long.

-- Queues journal rows again, oldest first. Consumers ignore events that they have processed; websockets ignore all
-- replays. `after_*` is where the previous portion ended. Returns no row when nothing is left.
create function replay_portion(
    only_entity text, only_entity_id text, from_time timestamptz, to_time timestamptz,
    after_time timestamptz, after_id bigint, rows_max integer
) returns table (queued bigint, last_time timestamptz, last_id bigint, last_queue_id bigint)
language plpgsql as $$
declare
    item record;
begin
    queued := 0;
    for item in
        select id, recorded_at
        from journal
        -- The first condition is for partition pruning; the key's order is the order of time.
        where recorded_at >= coalesce(greatest(from_time, after_time), '-infinity')
            and recorded_at < coalesce(to_time, 'infinity')
            and (recorded_at, id) > (coalesce(after_time, '-infinity'), coalesce(after_id, 0))
            and (only_entity is null or entity = only_entity)
            and (only_entity_id is null or entity_id = only_entity_id)
        order by recorded_at, id
        limit rows_max
    loop
        insert into journal_queue (journal_id, recorded_at, replay) values (item.id, item.recorded_at, true)
        returning id into last_queue_id;
        queued := queued + 1;
        last_time := item.recorded_at;
        last_id := item.id;
    end loop;
    if queued > 0 then
        perform pg_notify('journal', '');
        return next;
    end if;
end
$$;

-- The attached tables, with the arguments of `attach_journal`.
create function journaled_entities() returns table (entity text, target regclass, key_columns text[], omit text[])
language sql stable as $$
    select argument[1], tgrelid::regclass, argument[2]::text[], argument[3]::text[]
    from pg_trigger
    -- The catalog stores the arguments as bytes, each followed by a zero byte.
    cross join lateral string_to_array(encode(tgargs, 'escape'), '\000') as argument
    where tgfoid = 'journal_write()'::regprocedure and not tgisinternal and tgparentid = 0
    order by 1
$$;

-- Writes the present state of every row into the journal, to rebuild a projection: the journal keeps 14 days, and the
-- last change of most rows (such as a user's nickname) is older.
--
-- A snapshot row is an 'update' with a new journal id and the row's present version, because nothing has changed. It is
-- queued as a replay: websockets ignore it, and consumers process it.
--
-- The row is locked in share mode while its journal id is drawn, so ids keep the order of changes. `after_key` is the
-- key of the last row of the previous portion. Returns no row when nothing is left.
create function snapshot_portion(only_entity text, after_key jsonb, rows_max integer)
returns table (queued bigint, last_key jsonb, last_time timestamptz, last_id bigint, last_queue_id bigint)
language plpgsql as $$
declare
    source record;
    keys text;
    key_after text;
    key_object text;
    item record;
begin
    select * into source from journaled_entities() where entity = only_entity;
    if not found then
        raise exception 'no table is journaled as %', only_entity using errcode = 'invalid_parameter_value';
    end if;
    select string_agg(format('item.%I', name), ', ' order by place),
        string_agg(format('(jsonb_populate_record(null::%s, $1)).%I', source.target, name), ', ' order by place),
        string_agg(format('%L, item.%I', name, name), ', ' order by place)
    into keys, key_after, key_object
    from unnest(source.key_columns) with ordinality as key_column (name, place);

    queued := 0;
    for item in execute format(
        'select to_jsonb(item) as row_data, concat_ws('':'', %1$s) as id, item.version, jsonb_build_object(%4$s) as key
        from %2$s as item
        where $1 is null or (%1$s) > (%3$s)
        order by %1$s
        limit $2
        for share',
        keys, source.target, key_after, key_object
    ) using after_key, rows_max loop
        insert into journal (operation, entity, entity_id, version, row_data, correlation_id)
        values (
            'update', only_entity, item.id, item.version, item.row_data - source.omit,
            nullif(current_setting('flack.correlation_id', true), '')
        )
        returning id, recorded_at into last_id, last_time;
        insert into journal_queue (journal_id, recorded_at, replay) values (last_id, last_time, true)
        returning id into last_queue_id;
        queued := queued + 1;
        last_key := item.key;
    end loop;
    if queued > 0 then
        perform pg_notify('journal', '');
        return next;
    end if;
end
$$;


-- The instance that leads a piece of work: the application name of the connection that holds the advisory lock of
-- `flack_common::database::leader`; null when there is no leader.
create function leader_of(work text, subject text) returns text
language sql stable as $$
    select activity.application_name
    from pg_locks as lock
    inner join pg_stat_activity as activity using (pid)
    where lock.locktype = 'advisory' and lock.granted
        and lock.database = (select oid from pg_database where datname = current_database())
        -- The lock has two integers as its key; pg_locks shows them as unsigned.
        and lock.objsubid = 2
        and lock.classid = (hashtext(work)::bigint & 4294967295)::oid
        and lock.objid = (hashtext(subject)::bigint & 4294967295)::oid
$$;
