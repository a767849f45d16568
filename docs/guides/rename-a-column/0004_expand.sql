-- Release 1: the new column, which nobody uses yet. A trigger copies each write of one column into the other.

alter table read_markers add column last_read_id bigint;

create function read_markers_copy_last_read_id() returns trigger
language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        -- The previous version sets message_id only, the next version last_read_id only.
        new.last_read_id := coalesce(new.last_read_id, new.message_id);
        new.message_id := coalesce(new.message_id, new.last_read_id);
    elsif new.last_read_id is distinct from old.last_read_id then
        new.message_id := new.last_read_id;
    else
        new.last_read_id := new.message_id;
    end if;
    return new;
end
$$;

-- Triggers run in the order of their names: before `journal_version`, which does not read these columns.
create trigger copy_last_read_id before insert or update on read_markers
for each row execute function read_markers_copy_last_read_id();
