-- A row whose primary key changes is another entity from then on. The update of the new one is told as ever; this tells that the
-- old one has ended, which nobody would hear of else.

-- Arguments as those of journal_write: entity, its key columns, the columns to omit. Fires before it, by its name, so that the end
-- of the one comes before the news of the other.
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

-- Beside the triggers that the table has already, with their arguments.
create function journal_attach_key(target regclass) returns void
language plpgsql as $$
declare
    arguments text[];
    former_key text;
    new_key text;
begin
    -- As the catalog keeps them: each ends with a zero byte.
    select string_to_array(encode(tgargs, 'escape'), '\000') into strict arguments
    from pg_trigger where tgrelid = target and tgname = 'journal_write';

    select string_agg(format('old.%I', column_name), ', '), string_agg(format('new.%I', column_name), ', ')
    into former_key, new_key
    from unnest(arguments[2]::text[]) as column_name;

    -- The condition costs next to nothing where the key stays as it is, which is nearly always.
    execute format(
        'create trigger journal_key_changed after update on %s for each row when ((%s) is distinct from (%s))
        execute function journal_key_changed(%L, %L, %L)',
        target, former_key, new_key, arguments[1], arguments[2], arguments[3]
    );
end
$$;

alter function attach_journal(regclass, text, text[]) rename to journal_attach_rows;

create function attach_journal(target regclass, entity text, omit text[] default '{}') returns void
language plpgsql as $$
begin
    perform journal_attach_rows(target, entity, omit);
    perform journal_attach_key(target);
end
$$;

select journal_attach_key(tgrelid) from pg_trigger where tgname = 'journal_write';
