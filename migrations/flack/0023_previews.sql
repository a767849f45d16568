-- As migrations/messages.
-- Previews of linked pages as data, for version 2 of the API. Version 1 has them as quotations at the end of the HTML.
-- [{"url": "..", "title": "..", "description": ".."}]
alter table messages add column previews jsonb not null default '[]';
-- The byte of the HTML at which the quotations begin. Null if there are none.
alter table messages add column previews_start integer;

-- A message that was edited or deleted has none. In the database, because the previous version does not know them: the
-- quotations that it adds stay in the HTML of version 2.
create function erase_previews() returns trigger
language plpgsql as $$
begin
    new.previews := '[]';
    new.previews_start := null;
    return new;
end
$$;
create trigger erase_previews before update on messages
    for each row when (new.html <> old.html and new.previews = old.previews and new.previews_start is not null)
    execute function erase_previews();
