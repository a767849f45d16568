-- What it takes to resume exactly from the inbox.

-- Of each stream all behind this sequence is in the inbox, up to `inbox_position`. Rises before old partitions are dropped.
create table inbox_floor (
    stream text primary key,
    sequence bigint not null
);

-- While data moves from the monolith to a service, both streams tell of the same version of an entity: whoever was told by
-- one is not told by the other.
create index inbox_twin on inbox (entity_id, kind, version);
