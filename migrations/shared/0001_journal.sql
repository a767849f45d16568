-- The journal: triggers write every insert, update and delete of an owned table here, in the same transaction. So no
-- change is missing, and none is published that was rolled back.
--
-- Attach a table with
--     select attach_journal('users', 'user', omit => '{password_hash}');
-- The table needs a primary key and `version bigint not null default 1`.

create table journal (
    id bigint generated always as identity,
    -- clock_timestamp(), not the start of the transaction: a long transaction must not write to an old partition.
    recorded_at timestamptz not null default clock_timestamp(),
    operation text not null check (operation in ('insert', 'update', 'delete')),
    entity text not null,
    -- The primary key as text; the columns of a composite key are joined by ':'.
    entity_id text not null,
    -- The version of the entity: 1 at the insert; each update and the delete add 1.
    version bigint not null,
    -- The row after the change (at a delete the last row), without the omitted columns.
    row_data jsonb not null,
    -- The id of the request that made the change, from current_setting('flack.correlation_id').
    correlation_id text,
    -- The key of a partitioned table must contain the partition column. `id` alone is unique too: it has one sequence.
    primary key (recorded_at, id)
) partition by range (recorded_at);

-- A replay reads the history of one entity, or one id.
create index journal_entity on journal (entity, entity_id, id);

-- Takes rows for which no daily partition exists, so that a missing partition never makes a write fail.
create table journal_default partition of journal default;

-- The outbox: references to journal rows that are not published yet. A queue, not an offset in the journal: a
-- transaction that began earlier and commits later leaves a row with a lower id before every offset, but that row is
-- still in the queue.
create table journal_queue (
    id bigint generated always as identity primary key,
    journal_id bigint not null,
    -- Together with journal_id the key of the journal row: PostgreSQL reads one partition only.
    recorded_at timestamptz not null,
    -- Queued again by an operator. Its message id differs from the first one, or NATS would drop it as a duplicate.
    replay boolean not null default false,
    -- Set when the row could not be mapped to an event: the relay skips it until an operator queues it again.
    failed_at timestamptz,
    error text
) with (
    -- Every row is deleted soon after its insert: vacuum after a number of rows, not after a share of the table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000
);

-- For journal_queue_limit(): the oldest row that is neither failed nor a replay.
create index journal_queue_waiting on journal_queue (id) where failed_at is null and not replay;

-- While NATS is unavailable the queue and the journal grow. From this number of rows on, writes are refused (503 to the
-- client), because a full disk would stop reads too. A million changes with their journal rows take about 1 GB: more
-- than an hour without NATS at 200 changes per second.
create function journal_queue_rows_max() returns bigint
language sql immutable as $$ select 1000000::bigint $$;

-- Measures the length by ids, so ids of rolled back transactions count too. One index lookup for each row, however long
-- the queue is. Replays do not count: their journal rows exist already, and a replay must not stop the application.
create function journal_queue_limit() returns trigger
language plpgsql
-- The cached plan is made while the queue is empty, and would read the whole table when the queue has grown.
set enable_seqscan = off
as $$
begin
    if not new.replay and exists (
        select from journal_queue
        where id <= new.id - journal_queue_rows_max() and failed_at is null and not replay
    ) then
        -- An SQLSTATE of this application; `flack_common::database::StoreError` maps it to 503.
        raise exception 'journal_queue is full: events cannot be published'
            using errcode = 'FLQ01', hint = 'Find out why NATS does not store events. Writes work again when it does.';
    end if;
    return null;
end
$$;

create trigger journal_queue_limit after insert on journal_queue for each row execute function journal_queue_limit();

-- Increments `version` at each update, whatever the statement sets. A copy of another owner's table may set a higher
-- version (it takes the owner's); no statement can lower it.
create function journal_version() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        new.version := greatest(new.version, old.version + 1);
    end if;
    return new;
end
$$;

-- Writes a journal row and queues it. Trigger arguments: entity, key columns, omitted columns (both as text[]
-- literals).
--
-- For one entity `journal.id` grows in commit order, also across a delete and a new insert of the same key, where
-- `version` begins at 1 again: the id is drawn while the row is locked. Consumers use it to detect old events.
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

    -- Wakes the relay at commit. PostgreSQL delivers equal notifications of a transaction once.
    perform pg_notify('journal', '');
    return null;
end
$$;

-- Writes the delete of the old entity when an update changes the primary key: the row is another entity afterwards, and
-- `journal_write` writes only the new one. The arguments are those of `journal_write`.
create function journal_key_changed() returns trigger
language plpgsql as $$
declare
    former jsonb := to_jsonb(old);
    former_id text;
    written record;
begin
    select string_agg(former ->> key_column.name, ':' order by key_column.position)
    into former_id
    from unnest(tg_argv[1]::text[]) with ordinality as key_column (name, position);

    insert into journal (operation, entity, entity_id, version, row_data, correlation_id)
    values (
        'delete', tg_argv[0], former_id, old.version + 1, former - tg_argv[2]::text[],
        nullif(current_setting('flack.correlation_id', true), '')
    )
    returning id, recorded_at into written;

    insert into journal_queue (journal_id, recorded_at) values (written.id, written.recorded_at);
    return null;
end
$$;

-- TRUNCATE fires no row triggers: consumers would keep rows that no longer exist here.
create function journal_refuse_truncate() returns trigger
language plpgsql as $$
begin
    raise exception 'table % is journaled: truncate would publish no events; use delete', tg_table_name
        using errcode = 'feature_not_supported';
end
$$;

create function attach_journal(target regclass, entity text, omit text[] default '{}') returns void
language plpgsql as $$
declare
    key_columns text[];
    former_key text;
    new_key text;
    missing text;
begin
    select array_agg(attribute.attname::text order by key.position),
        string_agg(format('old.%I', attribute.attname), ', ' order by key.position),
        string_agg(format('new.%I', attribute.attname), ', ' order by key.position)
    into key_columns, former_key, new_key
    from pg_index as index
    cross join lateral unnest(index.indkey::int2[]) with ordinality as key (attribute_number, position)
    inner join pg_attribute as attribute
        on attribute.attrelid = index.indrelid and attribute.attnum = key.attribute_number
    where index.indrelid = target and index.indisprimary;

    if key_columns is null then
        raise exception 'table % has no primary key: its rows cannot be journaled', target;
    end if;

    -- A mistyped column in `omit` would publish a secret.
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
    -- PostgreSQL fires triggers in the order of their names: the old entity's delete comes before the new entity's
    -- update.
    execute format(
        'create trigger journal_key_changed after update on %s for each row when ((%s) is distinct from (%s))
        execute function journal_key_changed(%L, %L, %L)',
        target, former_key, new_key, entity, key_columns, omit
    );
    execute format(
        'create trigger journal_write after insert or update or delete on %s for each row
        execute function journal_write(%L, %L, %L)',
        target, entity, key_columns, omit
    );
    execute format(
        'create trigger journal_refuse_truncate before truncate on %s for each statement
        execute function journal_refuse_truncate()',
        target
    );
end
$$;
