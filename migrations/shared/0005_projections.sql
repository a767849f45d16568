-- Projections: tables that a consumer fills from another owner's events, such as the nicknames in messages.
--
-- A service declares its projections here and creates `clear_projections(source)`; see migrations/messages.
-- `mf events replay <source> --rebuild <service>` reads the table and calls the function.
create table projections (
    name text not null,
    -- The owner of the stream, and the journaled entity of that owner's database.
    source text not null,
    entity text not null,
    -- The part whose present owner has the right data: /flack/authority/<part> in the registry.
    part text not null,
    primary key (name, source)
);

-- Deletes the rows of a projection with one row per entity that come from events of this source and kind, and the
-- consumer's `inbox_entity` rows, without which the consumer would ignore the snapshot. For a service's
-- `clear_projections(source)`. Returns the number of deleted rows of the projection.
create function clear_projection(source text, kind text, projection regclass, key_column text) returns bigint
language plpgsql as $$
declare
    source_stream text := upper(source);
    cleared bigint;
begin
    if not exists (
        select from projections where projections.source = clear_projection.source and name = projection::text
    ) then
        raise exception '% is not a projection of events of %', projection, source
            using errcode = 'invalid_parameter_value';
    end if;
    -- The consumer writes inbox_entity first, then the projection: the same order of locks avoids a deadlock.
    lock table inbox_entity in share row exclusive mode;
    -- Keeps a row that only another owner's events wrote: this owner's snapshot does not contain it. Deletes a row that
    -- no event wrote.
    execute format(
        'delete from %1$s as item
        where exists (
                select from inbox_entity as held
                where held.stream = $1 and held.kind = $2 and held.entity_id = item.%2$I::text
            )
            or not exists (
                select from inbox_entity as held where held.kind = $2 and held.entity_id = item.%2$I::text
            )',
        projection, key_column
    ) using source_stream, kind;
    get diagnostics cleared = row_count;
    delete from inbox_entity as held where held.stream = source_stream and held.kind = clear_projection.kind;
    return cleared;
end
$$;
