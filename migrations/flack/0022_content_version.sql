-- As migrations/messages.
-- The version of the last change of what the author wrote. `If-Match` is compared with it: reactions, replies, the pin
-- and previews of links raise `version` alone. Null until the first change after this migration: then it is `version`.
alter table messages add column content_version bigint;

-- In the database, because the previous version does not know the column. The files of a message change only when it
-- is deleted. A replica does not update rows: it deletes and inserts them.
create function set_content_version() returns trigger
language plpgsql as $$
begin
    new.content_version := case
        when (new.source, new.deleted_at) is distinct from (old.source, old.deleted_at) then old.version + 1
        else coalesce(old.content_version, old.version)
    end;
    return new;
end
$$;
create trigger content_version before update on messages for each row execute function set_content_version();
