-- What a backfill from the inbox needs beside the shared inbox tables.

-- Of each stream, the inbox holds every event for clients after this sequence, up to the one in `inbox_offset`. The
-- sequence is raised before old partitions are dropped.
create table inbox_retained (
    stream text primary key,
    after_sequence bigint not null
);

-- Reads the events of a stream after a cursor.
create index inbox_stream_sequence on inbox (stream, sequence);

-- Finds the same version of an entity in another stream: while data moves from the monolith to a service, both have it.
create index inbox_entity_version on inbox (entity_id, kind, version);
