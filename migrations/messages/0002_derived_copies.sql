-- Nicknames are a copy. What is a copy can be thrown away and made anew, while the app runs:
--     mf events replay users --rebuild messages

insert into derived_copies (name, source, entity, resource) values
    ('nicknames', 'users', 'user', 'users'),
    ('nicknames', 'monolith', 'user', 'users');

-- Empties the copy as far as `source` told it, with the consumer's memory of having seen that: both in one transaction, or the
-- replay that follows would be ignored. Until it has come, lists of messages are without these nicknames.
create function clear_derived_copy(source text) returns bigint
language plpgsql as $$
declare
    source_stream text := upper(source);
    cleared bigint;
begin
    if not exists (select from derived_copies where derived_copies.source = clear_derived_copy.source) then
        raise exception 'messages keeps no copy of what % tells', source using errcode = 'invalid_parameter_value';
    end if;
    -- The consumer writes here first, then in the copy. It is waited for here, so that the two cannot wait for each other.
    lock table inbox_entity in share row exclusive mode;
    -- Kept is what only another owner told: it will not come again from this one. What nobody told should not be there at all.
    delete from nicknames
    where exists (
            select from inbox_entity as held
            where held.stream = source_stream and held.kind = 'user_changed' and held.entity_id = nicknames.user_id::text
        )
        or not exists (
            select from inbox_entity as held
            where held.kind = 'user_changed' and held.entity_id = nicknames.user_id::text
        );
    get diagnostics cleared = row_count;
    delete from inbox_entity as held where held.stream = source_stream and held.kind = 'user_changed';
    return cleared;
end
$$;
