-- The journal: every insert, update and delete of every owned table leaves a row here, written by a trigger in the same
-- transaction, so that no code path can forget it and nothing is told that did not happen.
--
-- Attach a table with
--     select attach_journal('users', 'user', omit => '{password_hash}');
-- The table needs a primary key and `version bigint not null default 1`.

create table journal (
    id bigint generated always as identity,
    -- The clock, not the start of the transaction: a long transaction must not write into an old partition.
    recorded_at timestamptz not null default clock_timestamp(),
    operation text not null check (operation in ('insert', 'update', 'delete')),
    entity text not null,
    -- The primary key as text; a composite one is joined by ':'.
    entity_id text not null,
    -- Of the entity: 1 at its insert, one more with each change, one more again with its delete.
    version bigint not null,
    -- The new version of the row (at a delete the last one), without the omitted columns.
    row_data jsonb not null,
    -- Which request it was, from current_setting('flack.correlation_id').
    correlation_id text,
    -- A partitioned table's key must hold the partition's column. `id` alone is unique too: it comes from one sequence.
    primary key (recorded_at, id)
) partition by range (recorded_at);

-- Replay reads one entity's history, or one id.
create index journal_entity on journal (entity, entity_id, id);

-- The safety net: no write of the app may fail because tomorrow's partition was not made in time.
create table journal_default partition of journal default;

-- What still has to be published. Rows are few and short-lived; the row itself stays in the journal.
-- A queue, and not a cursor into the journal: a transaction that began earlier and commits later leaves a row with a lower
-- id behind any cursor, but it is still in the queue.
create table journal_queue (
    id bigint generated always as identity primary key,
    journal_id bigint not null,
    -- Together with journal_id the journal's key: finds the row in one partition.
    recorded_at timestamptz not null,
    -- Queued again by an operator. Such a message must not be taken for a duplicate of the first one.
    replay boolean not null default false,
    -- Set when the row could not be mapped to an event: the others go on without it, and an operator can look.
    failed_at timestamptz,
    error text
) with (
    -- Every row is deleted a moment after it was written: vacuum by number of rows, not by share of the table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000
);

-- Keeps `version` right whatever a statement says. A replica of another owner's table may set a higher one (it copies the
-- owner's versions); nobody can set it back.
create function journal_version() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        new.version := greatest(new.version, old.version + 1);
    end if;
    return new;
end
$$;

-- Arguments: entity, its key columns, the columns to omit (both as text[] literals).
--
-- Of one entity, `journal.id` grows in commit order: it is drawn while the row's lock is held, also across a delete and an
-- insert of the same key, where `version` begins anew. Consumers rely on that to tell old from new.
create function journal_write() returns trigger
language plpgsql as $$
declare
    changed jsonb;
    changed_version bigint;
    changed_id text;
    written record;
begin
    if tg_op = 'DELETE' then
        changed := to_jsonb(old);
        changed_version := old.version + 1;
    else
        changed := to_jsonb(new);
        changed_version := new.version;
    end if;

    select string_agg(changed ->> key_column.name, ':' order by key_column.position)
    into changed_id
    from unnest(tg_argv[1]::text[]) with ordinality as key_column (name, position);

    insert into journal (operation, entity, entity_id, version, row_data, correlation_id)
    values (
        lower(tg_op), tg_argv[0], changed_id, changed_version, changed - tg_argv[2]::text[],
        nullif(current_setting('flack.correlation_id', true), '')
    )
    returning id, recorded_at into written;

    insert into journal_queue (journal_id, recorded_at) values (written.id, written.recorded_at);

    -- Delivered at commit, once a transaction; wakes the relay.
    perform pg_notify('journal', '');
    return null;
end
$$;

-- TRUNCATE fires no row triggers: everybody downstream would keep what is gone here.
create function journal_refuse_truncate() returns trigger
language plpgsql as $$
begin
    raise exception 'table % is journaled: truncate would not be told to anybody; use delete', tg_table_name
        using errcode = 'feature_not_supported';
end
$$;

create function attach_journal(target regclass, entity text, omit text[] default '{}') returns void
language plpgsql as $$
declare
    key_columns text[];
    missing text;
begin
    select array_agg(attribute.attname::text order by key.position)
    into key_columns
    from pg_index as index
    cross join lateral unnest(index.indkey::int2[]) with ordinality as key (attribute_number, position)
    inner join pg_attribute as attribute
        on attribute.attrelid = index.indrelid and attribute.attnum = key.attribute_number
    where index.indrelid = target and index.indisprimary;

    if key_columns is null then
        raise exception 'table % has no primary key: its rows cannot be journaled', target;
    end if;

    -- A mistyped column to omit would publish what should have stayed here.
    select column_name.name into missing
    from unnest(omit || array['version']) as column_name (name)
    where not exists (
        select from pg_attribute as attribute
        where attribute.attrelid = target and attribute.attname = column_name.name and not attribute.attisdropped
    )
    limit 1;
    if missing is not null then
        raise exception 'table % has no column %: it cannot be journaled', target, missing;
    end if;

    execute format(
        'create trigger journal_version before update on %s for each row execute function journal_version()', target
    );
    execute format(
        'create trigger journal_write after insert or update or delete on %s for each row execute function journal_write(%L, %L, %L)',
        target, entity, key_columns, omit
    );
    execute format(
        'create trigger journal_refuse_truncate before truncate on %s for each statement execute function journal_refuse_truncate()',
        target
    );
end
$$;

-- Queues rows of the journal once more, oldest first: what `mf events replay` calls. Consumers that have seen them ignore them.
create function replay_journal(
    only_entity text default null, from_time timestamptz default '-infinity', to_time timestamptz default 'infinity'
) returns bigint
language plpgsql as $$
declare
    queued bigint;
begin
    insert into journal_queue (journal_id, recorded_at, replay)
    select id, recorded_at, true
    from journal
    where recorded_at >= from_time and recorded_at < to_time and (only_entity is null or entity = only_entity)
    order by id;
    get diagnostics queued = row_count;
    perform pg_notify('journal', '');
    return queued;
end
$$;
