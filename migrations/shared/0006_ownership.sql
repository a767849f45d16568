-- Ownership: which parts may be written in this database. The fence is inside the writer's transaction, so no code path
-- can omit it, and no write commits behind the marker that ends the journal of a part.
--
-- A migration of a part's tables ends with
--     select attach_part('ui', '{preferences, read_markers}');
--
-- The rules are those of `flack_handover::fence::decide`; a test compares both.

create table ownership (
    part text primary key,
    -- owner: its tables may be written. replica: only the applier of the owner's changes writes. closed: nobody writes.
    role text not null check (role in ('owner', 'replica', 'closed')),
    -- The epoch of the last change of `role`. It never decreases, so a delayed command or an old record has no effect.
    epoch bigint not null,
    -- The journal id of the marker that was written when the part was closed for the last time.
    marker bigint,
    -- Up to which journal id of the other side's database the applier has applied its changes.
    applied bigint not null default 0,
    updated_at timestamptz not null default clock_timestamp()
);

-- The tables of each part, in the order of foreign keys: a table comes after those that it references.
create table part_tables (
    target regclass primary key,
    part text not null references ownership (part),
    position integer not null,
    unique (part, position)
);

-- Refuses a statement on a table of a part that this database does not own. The trigger argument is the part.
--
-- `flack.applier` is set by the applier of the owner's changes, to the name of the part: it writes only a replica, and
-- its writes are neither journaled nor do they get new versions.
create function ownership_check() returns trigger
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
    -- A new snapshot: this statement sees what was committed while the one above waited for the lock. The epoch is for
    -- `journal_write`.
    select role, set_config('flack.epoch_' || part, epoch::text, true)
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

-- Makes tables belong to a part, after `attach_journal`. A new database owns its parts: the processes pass on the
-- record of the registry before they serve (`flack_common::authority`), and without a registry there is no other side.
create function attach_part(part text, tables text[]) returns void
language plpgsql as $$
declare
    attached regclass;
    journaled record;
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
        -- As in attach_journal, with the part, whose epoch the journal row gets.
        for journaled in select * from journaled_entities() as item where item.target = attached loop
            execute format(
                'create or replace trigger journal_write after insert or update or delete on %s for each row
                execute function journal_write(%L, %L, %L, %L)',
                attached, journaled.entity, journaled.key_columns, journaled.omit, attach_part.part
            );
        end loop;
    end loop;
end
$$;

-- Closes a part for the attempt with this epoch, and returns the journal id of its marker: all writes of the part have
-- lower ones. Repeating it writes no second marker.
--
-- Waits at most 1 s for open transactions (55P03); statements that come meanwhile wait behind it. So an attempt fails
-- rather than that writes wait for a long transaction.
create function close_part(closing text, attempt bigint) returns bigint
language plpgsql
set lock_timeout = '1s'
as $$
declare
    held ownership%rowtype;
    written record;
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
    update ownership set role = 'closed', epoch = attempt, marker = written.id, updated_at = clock_timestamp()
    where part = closing;
    return written.id;
end
$$;

-- Applies the record of a part as a process has read it, perhaps an old one, and returns the role. `applied_up_to` is
-- the record's marker: a new owner opens only when it has applied the former owner's journal up to it.
create function follow_record(
    following text, is_owner boolean, record_epoch bigint, is_switching boolean, applied_up_to bigint
) returns text
language plpgsql
set lock_timeout = '1s'
as $$
declare
    held ownership%rowtype;
    next_role text;
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
        -- A role that waits for its record keeps its epoch, and so does an owner that is about to be closed.
        if record_epoch < held.epoch
            or (next_role = held.role and record_epoch = held.epoch)
            or (next_role = held.role and is_owner and (is_switching or held.role <> 'owner'))
        then
            return held.role;
        end if;
        if attempt = 1 then
            perform pg_advisory_xact_lock(hashtext('ownership'), hashtext(following));
        end if;
    end loop;

    perform set_config('synchronous_commit', 'on', true);
    update ownership set role = next_role, epoch = record_epoch, updated_at = clock_timestamp()
    where part = following;
    return next_role;
end
$$;

-- The epoch of the part's owner at the time of the change; 0 for tables that belong to no part. Changes of one entity
-- by different owners have the order (epoch, id).
alter table journal add column epoch bigint not null default 0;

-- The epoch of a table's part. The shared lock of the writing transaction keeps it from changing.
create function epoch_of(written regclass) returns bigint
language plpgsql stable as $$
begin
    return coalesce(
        (select epoch from part_tables inner join ownership using (part) where target = written), 0
    );
end
$$;

-- Whether the applier of the table's part writes: the owner has journaled the change and numbered the version.
create function is_applier(written regclass) returns boolean
language plpgsql stable as $$
begin
    return exists (
        select from part_tables where target = written and part = current_setting('flack.applier', true)
    );
end
$$;

-- As in 0001, except for the applier.
create or replace function journal_version() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' and (coalesce(current_setting('flack.applier', true), '') = '' or not is_applier(tg_relid)) then
        new.version := greatest(new.version, old.version + 1);
    end if;
    return new;
end
$$;

-- As in 0001, with the epoch, and except for the applier.
create or replace function journal_write() returns trigger
language plpgsql as $$
declare
    changed jsonb;
    changed_version bigint;
    changed_id text;
    written record;
begin
    if current_setting('flack.applier', true) <> '' and is_applier(tg_relid) then
        return null;
    end if;
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

    insert into journal (operation, entity, entity_id, version, row_data, correlation_id, epoch)
    values (
        lower(tg_op), tg_argv[0], changed_id, changed_version, changed - tg_argv[2]::text[],
        nullif(current_setting('flack.correlation_id', true), ''),
        -- Set by `ownership_check` before this statement. Null for a table that belongs to no part.
        coalesce(nullif(current_setting('flack.epoch_' || tg_argv[3], true), '')::bigint, 0)
    )
    returning id, recorded_at into written;

    insert into journal_queue (journal_id, recorded_at) values (written.id, written.recorded_at);

    -- Wakes the relay at commit. PostgreSQL delivers equal notifications of a transaction once.
    perform pg_notify('journal', '');
    return null;
end
$$;

-- As in 0001, with the epoch, and except for the applier.
create or replace function journal_key_changed() returns trigger
language plpgsql as $$
declare
    former jsonb := to_jsonb(old);
    former_id text;
    written record;
begin
    if current_setting('flack.applier', true) <> '' and is_applier(tg_relid) then
        return null;
    end if;
    select string_agg(former ->> key_column.name, ':' order by key_column.position)
    into former_id
    from unnest(tg_argv[1]::text[]) with ordinality as key_column (name, position);

    insert into journal (operation, entity, entity_id, version, row_data, correlation_id, epoch)
    values (
        'delete', tg_argv[0], former_id, old.version + 1, former - tg_argv[2]::text[],
        nullif(current_setting('flack.correlation_id', true), ''), epoch_of(tg_relid)
    )
    returning id, recorded_at into written;

    insert into journal_queue (journal_id, recorded_at) values (written.id, written.recorded_at);
    return null;
end
$$;

-- As in 0004, with the epoch, and only at the owner.
create or replace function snapshot_portion(only_entity text, after_key jsonb, rows_max integer)
returns table (queued bigint, last_key jsonb, last_time timestamptz, last_id bigint, last_queue_id bigint)
language plpgsql as $$
declare
    source record;
    keys text;
    key_after text;
    key_object text;
    item record;
    held record;
begin
    select * into source from journaled_entities() where entity = only_entity;
    if not found then
        raise exception 'no table is journaled as %', only_entity using errcode = 'invalid_parameter_value';
    end if;
    -- A snapshot row has the present epoch: only the owner's rows are newer than all former ones.
    select part, role into held
    from part_tables as attached inner join ownership using (part) where attached.target = source.target;
    if found then
        perform pg_advisory_xact_lock_shared(hashtext('ownership'), hashtext(held.part));
        if not exists (select from ownership where part = held.part and role = 'owner') then
            raise exception 'part % is % in this database: only the owner publishes its rows', held.part, held.role
                using errcode = 'FL001';
        end if;
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
        insert into journal (operation, entity, entity_id, version, row_data, correlation_id, epoch)
        values (
            'update', only_entity, item.id, item.version, item.row_data - source.omit,
            nullif(current_setting('flack.correlation_id', true), ''), epoch_of(source.target)
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

-- Events of one entity come from the streams of both sides; an event counts as newer by (epoch, journal id).
alter table inbox_entity add column epoch bigint not null default 0;
