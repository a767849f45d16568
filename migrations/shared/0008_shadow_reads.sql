-- Shadow reads: how often the replica of a part has answered a repeated read as the owner did. In the owner's database.
create table shadow_reads (
    part text primary key,
    -- The counts are those of this epoch of the record.
    epoch bigint not null,
    reads bigint not null,
    mismatches bigint not null,
    -- The last mismatches: operation, and both answers.
    examples jsonb not null,
    updated_at timestamptz not null default clock_timestamp()
);

-- Adds what a process has counted. Counts of an earlier epoch are replaced, and late ones of an earlier epoch ignored.
create function count_shadow_reads(
    counted text, counted_epoch bigint, more_reads bigint, more_mismatches bigint, more_examples jsonb
) returns void
language sql as $$
    insert into shadow_reads as present (part, epoch, reads, mismatches, examples)
    values (counted, counted_epoch, more_reads, more_mismatches, more_examples)
    on conflict (part) do update set
        epoch = excluded.epoch,
        reads = excluded.reads + case when present.epoch = excluded.epoch then present.reads else 0 end,
        mismatches = excluded.mismatches + case when present.epoch = excluded.epoch then present.mismatches else 0 end,
        examples = case
            when present.epoch = excluded.epoch and excluded.mismatches = 0 then present.examples
            else excluded.examples
        end,
        updated_at = clock_timestamp()
    where present.epoch <= excluded.epoch
$$;
