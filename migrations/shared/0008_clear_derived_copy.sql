-- Empties `copy`, a table with a row an entity, as far as `source` told it by events of this kind; with the consumer's memory of
-- having seen that, both in one transaction, or the replay that follows would be ignored. For `clear_derived_copy(source)` of
-- whoever keeps the copy. Says how many rows went.
create function clear_told(source text, kind text, copy regclass, key_column text) returns bigint
language plpgsql as $$
declare
    source_stream text := upper(source);
    cleared bigint;
begin
    if not exists (select from derived_copies where derived_copies.source = clear_told.source and name = copy::text) then
        raise exception '% is no copy of what % tells', copy, source using errcode = 'invalid_parameter_value';
    end if;
    -- The consumer writes here first, then in the copy. It is waited for here, so that the two cannot wait for each other.
    lock table inbox_entity in share row exclusive mode;
    -- Kept is what only another owner told: it will not come again from this one. What nobody told should not be there at all.
    execute format(
        'delete from %1$s as kept
        where exists (
                select from inbox_entity as held
                where held.stream = $1 and held.kind = $2 and held.entity_id = kept.%2$I::text
            )
            or not exists (
                select from inbox_entity as held where held.kind = $2 and held.entity_id = kept.%2$I::text
            )',
        copy, key_column
    ) using source_stream, kind;
    get diagnostics cleared = row_count;
    delete from inbox_entity as held where held.stream = source_stream and held.kind = clear_told.kind;
    return cleared;
end
$$;
