-- The change log of a part, from which the other side's replica follows (docs/decisions/0028). While a part is
-- followed, each write of its tables adds the keys of the changed rows here, in the same transaction.

create table part_changes (
    part text not null,
    -- Readers get only transactions before the oldest one that still runs, in this order. So nothing appears later at a
    -- position that was read already, whenever a transaction commits.
    transaction xid8 not null default pg_current_xact_id(),
    id bigint generated always as identity,
    -- marker: the part was closed, no row follows. probe: shows that the replica has applied everything before it.
    kind text not null default 'row' check (kind in ('row', 'marker', 'probe')),
    -- The table of a row.
    target text,
    -- The columns of the primary key with their values; the epoch of a marker; the nonce of a probe.
    key jsonb not null,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (part, transaction, id)
) with (
    -- Every row is deleted soon after its insert: vacuum after a number of rows, not after a share of the table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000
);

-- Since which epoch this database records all changes of a part that it owns; null when it does not. A replica that
-- follows since another epoch has missed changes, and copies again.
alter table ownership add column followed_since bigint;

-- What the owner knows about the change log of a part.
create table part_logs (
    part text primary key references ownership (part),
    -- Up to which position the log was deleted.
    deleted_transaction xid8 not null default '0',
    deleted_id bigint not null default 0,
    -- When a probe last went to the replica and back.
    way_back_at timestamptz
);

-- What a replica has applied. Written in the transaction that writes the rows.
create table part_replicas (
    part text primary key references ownership (part),
    -- `followed_since` of the owner; null before the first copy.
    since bigint,
    -- The position in the owner's change log.
    transaction xid8 not null default '0',
    id bigint not null default 0,
    is_copied boolean not null default false,
    -- Whether the foreign keys of the tables exist: the applier drops them first.
    has_keys boolean not null default true,
    -- Whether the applier writes `part_touched`: since the first comparison.
    tracks_touched boolean not null default false,
    rows_applied bigint not null default 0,
    is_paused boolean not null default false,
    throttled text,
    error text,
    -- The largest lag of the last seconds, and when the applier last wrote it.
    lag_ms integer,
    seen_at timestamptz
);

-- The copy of each table of a replica.
create table part_copies (
    part text not null references ownership (part),
    target text not null,
    -- Counted at the owner when the copy began.
    rows_total bigint not null,
    rows_copied bigint not null default 0,
    -- The key of the last copied row; the copy continues after it.
    last_key jsonb,
    is_done boolean not null default false,
    primary key (part, target)
);

-- The rows that were applied since the last comparison of both sides.
create table part_touched (
    part text not null references ownership (part),
    target text not null,
    key jsonb not null,
    touched_at timestamptz not null default clock_timestamp(),
    primary key (part, target, key)
);

-- The last comparison of both sides, as a replica has made it.
create table part_verifications (
    part text primary key references ownership (part),
    rows_compared bigint not null default 0,
    rows_total bigint not null default 0,
    is_running boolean not null default true,
    -- A comparison that shows no progress has been interrupted.
    seen_at timestamptz not null default clock_timestamp(),
    -- When all rows were known to be equal or different.
    compared_at timestamptz,
    rows_different bigint not null default 0,
    -- The first ones, with both values.
    differences jsonb not null default '[]'
);

-- Foreign keys that were dropped. A foreign key exists only while this database owns the parts of both of its tables:
-- rows arrive in the order of changes, not of references, and its cascade would write a table that is not owned.
create table part_keys (
    referencing text not null,
    referenced text not null,
    name text not null,
    definition text not null,
    primary key (referencing, name)
);

-- The foreign keys of a part's tables, and those to them.
create function part_foreign_keys(of_part text)
returns table (referencing regclass, referenced regclass, name text, is_crossing boolean, is_valid boolean)
language sql stable as $$
    select conrelid::regclass, confrelid::regclass, conname::text, source.part is distinct from goal.part, convalidated
    from pg_constraint
    left join part_tables as source on source.target = conrelid
    left join part_tables as goal on goal.target = confrelid
    where contype = 'f' and of_part in (source.part, goal.part)
    order by 1, 3
$$;

-- Drops a foreign key and keeps its definition. Statements on both tables wait meanwhile, so not for long.
create function drop_foreign_key(dropped_from regclass, dropped text) returns void
language plpgsql
set lock_timeout = '500ms'
as $$
begin
    insert into part_keys (referencing, referenced, name, definition)
    select conrelid::regclass::text, confrelid::regclass::text, conname,
        regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '')
    from pg_constraint where conrelid = dropped_from and conname = dropped and contype = 'f'
    on conflict do nothing;
    execute format('alter table %s drop constraint if exists %I', dropped_from, dropped);
end
$$;

-- Adds a dropped foreign key again, for new rows; `validate constraint` checks the present ones.
create function restore_foreign_key(restored_to text, restored text) returns void
language plpgsql
set lock_timeout = '500ms'
as $$
declare
    kept part_keys%rowtype;
begin
    delete from part_keys where referencing = restored_to and name = restored returning * into kept;
    if kept.name is not null then
        execute format('alter table %s add constraint %I %s not valid', kept.referencing, kept.name, kept.definition);
    end if;
end
$$;

-- Deletes changes that the replica has applied, a limited number at once. Returns the number.
create function delete_changes(of_part text, up_to_transaction xid8, up_to_id bigint, rows_max integer)
returns bigint
language plpgsql as $$
declare
    last record;
    deleted bigint;
begin
    select transaction, id into last
    from (
        select transaction, id from part_changes
        where part = of_part and (transaction, id) <= (up_to_transaction, up_to_id)
        order by transaction, id
        limit rows_max
    ) as item
    order by transaction desc, id desc
    limit 1;
    if last.id is null then
        return 0;
    end if;
    delete from part_changes where part = of_part and (transaction, id) <= (last.transaction, last.id);
    get diagnostics deleted = row_count;
    insert into part_logs as log (part, deleted_transaction, deleted_id)
    values (of_part, last.transaction, last.id)
    on conflict (part) do update
    set deleted_transaction = excluded.deleted_transaction, deleted_id = excluded.deleted_id
    where (log.deleted_transaction, log.deleted_id) < (excluded.deleted_transaction, excluded.deleted_id);
    return deleted;
end
$$;

-- As in 0006. `flack.followed_<part>` is the condition of the triggers `part_changes`.
create or replace function ownership_check() returns trigger
language plpgsql as $$
declare
    needed text := case when current_setting('flack.applier', true) = tg_argv[0] then 'replica' else 'owner' end;
    held record;
begin
    -- At the other levels the query below would read the snapshot of the transaction's first statement, and miss that
    -- the part was closed since.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'table % is written at the isolation level %', tg_table_name,
            current_setting('transaction_isolation')
            using errcode = 'feature_not_supported', hint = 'Write at the level read committed.';
    end if;
    -- Shared until the commit. A change of the role has it exclusively.
    perform pg_advisory_xact_lock_shared(hashtext('ownership'), hashtext(tg_argv[0]));
    -- A new snapshot: this statement sees what was committed while the one above waited for the lock. The settings are
    -- for the triggers of the rows.
    select role, set_config('flack.epoch_' || part, epoch::text, true),
        set_config('flack.followed_' || part, (followed_since is not null)::text, true)
    into held from ownership where part = tg_argv[0];
    if held.role is distinct from needed then
        -- An SQLSTATE of this application; `flack_common::database::StoreError` maps it to 503.
        raise exception 'part % is % in this database: table % is not written',
            tg_argv[0], coalesce(held.role, 'unknown'), tg_table_name
            using errcode = 'FL001', hint = 'Write at the owner: /flack/authority/' || tg_argv[0] || ' names it.';
    end if;
    return null;
end
$$;

-- Attaches the triggers of rows to a table of a part. The conditions are those of the triggers, not of their functions:
-- a trigger that is not fired costs nothing, and the copy of a replica writes millions of rows.
create function attach_row_triggers(attached regclass, part text) returns void
language plpgsql as $$
declare
    journaled record;
    recorder text := 'record_change_of_' || attached::text;
    old_key text;
    new_key text;
    old_columns text;
    new_columns text;
begin
    select string_agg(format('%L, old.%I', attname, attname), ', ' order by key.position),
        string_agg(format('%L, new.%I', attname, attname), ', ' order by key.position),
        string_agg(format('old.%I', attname), ', ' order by key.position),
        string_agg(format('new.%I', attname), ', ' order by key.position)
    into old_key, new_key, old_columns, new_columns
    from pg_index as index
    cross join lateral unnest(index.indkey::int2[]) with ordinality as key (attribute_number, position)
    inner join pg_attribute on attrelid = index.indrelid and attnum = key.attribute_number
    where index.indrelid = attached and index.indisprimary;
    if old_key is null then
        raise exception 'table % has no primary key: its changes cannot be followed', attached;
    end if;

    -- A function for each table: the key of a generic one would need the whole row as JSON.
    execute format(
        $definition$
        create or replace function %1$I() returns trigger
        language plpgsql as $body$
        begin
            if tg_op <> 'INSERT' then
                insert into part_changes (part, target, key) values (%2$L, %3$L, jsonb_build_object(%4$s));
            end if;
            if tg_op = 'INSERT' or (tg_op = 'UPDATE' and (%6$s) is distinct from (%7$s)) then
                insert into part_changes (part, target, key) values (%2$L, %3$L, jsonb_build_object(%5$s));
            end if;
            perform pg_notify('part_changes', %2$L);
            return null;
        end
        $body$
        $definition$,
        recorder, part, attached::text, old_key, new_key, old_columns, new_columns
    );
    execute format(
        'create or replace trigger part_changes after insert or update or delete on %s for each row
        when (current_setting(%L, true) = ''true'') execute function %I()',
        attached, 'flack.followed_' || part, recorder
    );
    -- As in attach_journal, with the part, whose epoch the journal row gets, and not for the applier.
    for journaled in select * from journaled_entities() as item where item.target = attached loop
        execute format(
            'create or replace trigger journal_write after insert or update or delete on %s for each row
            when (coalesce(current_setting(''flack.applier'', true), '''') <> %L)
            execute function journal_write(%L, %L, %L, %L)',
            attached, part, journaled.entity, journaled.key_columns, journaled.omit, part
        );
    end loop;
end
$$;

-- As in 0006, with the triggers of the change log.
create or replace function attach_part(part text, tables text[]) returns void
language plpgsql as $$
declare
    attached regclass;
begin
    insert into ownership (part, role, epoch) values (attach_part.part, 'owner', 0) on conflict do nothing;
    foreach attached in array tables loop
        insert into part_tables (target, part, position)
        select attached, attach_part.part, count(*) + 1
        from part_tables as item where item.part = attach_part.part;
        -- PostgreSQL fires triggers in the order of their names, but those of statements before those of rows.
        execute format(
            'create trigger ownership_check before insert or update or delete or truncate on %s for each statement
            execute function ownership_check(%L)',
            attached, attach_part.part
        );
        perform attach_row_triggers(attached, attach_part.part);
    end loop;
end
$$;

-- The tables that were attached by a version before this migration.
select attach_row_triggers(target, part) from part_tables order by part, position;

-- As in 0001, except for the applier: a replica that copies again is emptied first.
create or replace function journal_refuse_truncate() returns trigger
language plpgsql as $$
begin
    if is_applier(tg_relid) then
        return null;
    end if;
    raise exception 'table % is journaled: truncate would publish no events; use delete', tg_table_name
        using errcode = 'feature_not_supported';
end
$$;

-- As in 0006, but the marker is an entry of the change log, and its id is returned: all changes of the part have lower
-- ones. The journal gets a row as well, for the readers of events.
create or replace function close_part(closing text, attempt bigint) returns bigint
language plpgsql
set lock_timeout = '1s'
as $$
declare
    held ownership%rowtype;
    written record;
    marked bigint;
begin
    perform pg_advisory_xact_lock(hashtext('ownership'), hashtext(closing));
    select * into held from ownership where part = closing;
    if held.role = 'closed' and held.epoch = attempt then
        return held.marker;
    elsif held.part is null then
        raise exception 'this database has no part %', closing using errcode = 'invalid_parameter_value';
    elsif attempt <= held.epoch then
        raise exception 'part % is at epoch %: the attempt with epoch % is over', closing, held.epoch, attempt
            using errcode = 'FL002';
    elsif held.role = 'replica' then
        raise exception 'part % is a replica in this database: only the owner is closed', closing
            using errcode = 'FL001';
    end if;

    -- The marker is durable when it is reported, and with it every write before it.
    perform set_config('synchronous_commit', 'on', true);
    insert into journal (operation, entity, entity_id, version, row_data, epoch)
    values ('update', 'ownership', closing, attempt, jsonb_build_object('part', closing, 'role', 'closed'), attempt)
    returning id, recorded_at into written;
    insert into journal_queue (journal_id, recorded_at) values (written.id, written.recorded_at);
    perform pg_notify('journal', '');
    insert into part_changes (part, kind, key) values (closing, 'marker', jsonb_build_object('epoch', attempt))
    returning id into marked;
    perform pg_notify('part_changes', closing);
    update ownership set role = 'closed', epoch = attempt, marker = marked, updated_at = clock_timestamp()
    where part = closing;
    return marked;
end
$$;

-- As in 0006, and decides whether the owner records changes. `is_followed`: the record is at a stage at which the other
-- side follows; null when a process of an older version does not know it.
create function follow_record(
    following text, is_owner boolean, record_epoch bigint, is_switching boolean, applied_up_to bigint,
    is_followed boolean
) returns text
language plpgsql
set lock_timeout = '1s'
as $$
declare
    held ownership%rowtype;
    next_role text;
    next_since bigint;
    keeps_epoch boolean;
begin
    -- First without the lock: nearly always there is nothing to do. Then again, because the role may have changed.
    for attempt in 1..2 loop
        select * into held from ownership where part = following;
        if held.part is null then
            raise exception 'this database has no part %', following using errcode = 'invalid_parameter_value';
        end if;
        next_role := case
            when record_epoch < held.epoch then held.role
            -- An intent has the epoch of the change that follows it, so only a newer record takes the ownership away.
            when not is_owner then
                case when held.role = 'owner' and record_epoch = held.epoch then 'owner' else 'replica' end
            when is_switching then held.role
            -- Closed for an attempt that was undone since.
            when held.role = 'closed' and record_epoch > held.epoch then 'owner'
            when held.role = 'replica' and (applied_up_to is null or held.applied >= applied_up_to) then 'owner'
            else held.role
        end;
        next_since := case
            when record_epoch < held.epoch then held.followed_since
            when next_role = 'replica' then null
            when next_role = 'closed' or not is_owner then held.followed_since
            -- A new owner: the former one follows since this epoch, in which both have the same rows.
            when held.role = 'replica' then case when is_followed is false then null else record_epoch end
            when is_followed is null then held.followed_since
            -- An attempt that was undone raises the epoch, and the replica goes on.
            when is_followed then coalesce(held.followed_since, record_epoch)
        end;
        -- A role that waits for its record keeps its epoch, and so does an owner that is about to be closed.
        keeps_epoch := next_role = held.role
            and (record_epoch = held.epoch or (is_owner and (is_switching or held.role <> 'owner')));
        if record_epoch < held.epoch or (keeps_epoch and next_since is not distinct from held.followed_since) then
            return held.role;
        end if;
        if attempt = 1 then
            perform pg_advisory_xact_lock(hashtext('ownership'), hashtext(following));
        end if;
    end loop;

    perform set_config('synchronous_commit', 'on', true);
    if next_since is distinct from held.followed_since then
        delete from part_changes where part = following;
        delete from part_logs where part = following;
    end if;
    -- Also when nobody follows any more: what was copied and compared is old when the next following begins.
    if next_role = 'replica' and (held.role <> 'replica' or is_followed is false) then
        delete from part_replicas where part = following;
        delete from part_copies where part = following;
        delete from part_touched where part = following;
        delete from part_verifications where part = following;
        -- A former owner that was closed for this change has the rows of the new owner, and follows it from there.
        insert into part_replicas (part, since, is_copied)
        values (following, case when held.role = 'closed' then held.epoch end, held.role = 'closed');
    end if;
    update ownership
    set role = next_role, followed_since = next_since, updated_at = clock_timestamp(),
        epoch = case when keeps_epoch then held.epoch else record_epoch end,
        applied = case when next_role = 'replica' and held.role <> 'replica' then 0 else held.applied end
    where part = following;
    return next_role;
end
$$;

-- For processes of older versions.
create or replace function follow_record(
    following text, is_owner boolean, record_epoch bigint, is_switching boolean, applied_up_to bigint
) returns text
language plpgsql as $$
begin
    return follow_record(following, is_owner, record_epoch, is_switching, applied_up_to, null);
end
$$;
