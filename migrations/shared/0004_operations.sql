-- What operators ask of journal and inbox: `mf events` calls these. Each takes a portion and says where it ended: a replay of
-- a large table must not stand in the queue before what happens now, nor hold locks for longer than a moment.

-- Queues rows of the journal once more, oldest first. Consumers that have seen them ignore them; so do sockets.
-- `behind_*` is where the portion before ended. No row comes back when nothing is left.
create function replay_portion(
    only_entity text, only_entity_id text, from_time timestamptz, to_time timestamptz,
    behind_time timestamptz, behind_id bigint, rows_max integer
) returns table (queued bigint, last_time timestamptz, last_id bigint, last_queue_id bigint)
language plpgsql as $$
declare
    item record;
begin
    queued := 0;
    for item in
        select id, recorded_at
        from journal
        -- The first condition alone already leaves out partitions; the key's order is the order of time.
        where recorded_at >= coalesce(greatest(from_time, behind_time), '-infinity') and recorded_at < coalesce(to_time, 'infinity')
            and (recorded_at, id) > (coalesce(behind_time, '-infinity'), coalesce(behind_id, 0))
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

-- What is journaled here, as `attach_journal` was told.
create function journaled_entities() returns table (entity text, target regclass, key_columns text[], omit text[])
language sql stable as $$
    select argument[1], tgrelid::regclass, argument[2]::text[], argument[3]::text[]
    from pg_trigger
    -- The arguments are kept as bytes, each ended by a zero.
    cross join lateral string_to_array(encode(tgargs, 'escape'), '\000') as argument
    where tgfoid = 'journal_write()'::regprocedure and not tgisinternal and tgparentid = 0
    order by 1
$$;

-- Tells the present state of every row once more: for a copy that is to be made anew, when the journal no longer holds the
-- last change of each row (it keeps 14 days; most users change their nickname never).
--
-- A snapshot row is an 'update' under a new journal id, with the version that the row has: nothing has changed, so no version
-- moves. It is queued as a replay: sockets leave it out, consumers hand it to handlers, which write what they hold already.
--
-- The row is locked in share mode while its journal id is drawn, as every writer's is: the order of ids stays the order of
-- changes. `behind` holds the key of the last row of the portion before; no row comes back when nothing is left.
create function snapshot_portion(only_entity text, behind jsonb, rows_max integer)
returns table (queued bigint, last_key jsonb, last_time timestamptz, last_id bigint, last_queue_id bigint)
language plpgsql as $$
declare
    source record;
    keys text;
    key_of_behind text;
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
    into keys, key_of_behind, key_object
    from unnest(source.key_columns) with ordinality as key_column (name, place);

    queued := 0;
    for item in execute format(
        'select to_jsonb(item) as row_data, concat_ws('':'', %1$s) as id, item.version, jsonb_build_object(%4$s) as key
        from %2$s as item
        where $1 is null or (%1$s) > (%3$s)
        order by %1$s
        limit $2
        for share',
        keys, source.target, key_of_behind, key_object
    ) using behind, rows_max loop
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

-- Whoever keeps a copy of another owner's data says so here, and brings `clear_derived_copy(source)` that empties it; see
-- migrations/messages. `mf events replay <source> --rebuild <who keeps it>` reads this.
create table derived_copies (
    name text not null,
    -- Whose stream it is made from, and which of the entities that are journaled there.
    source text not null,
    entity text not null,
    -- Whose present owner tells the truth: /flack/authority/<resource> in the registry.
    resource text not null,
    primary key (name, source)
);

-- Which kind of events the reader takes in; null means all. With it `mf events lag` counts what is behind the position, and not
-- what the reader never asked for.
alter table inbox_position add column kind text;
