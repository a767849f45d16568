-- Release 2, whose statements use last_read_id: its migrations run after the backfill has ended.

-- mfcheck allow ban-new-write-restriction: the trigger of 0004_expand.sql fills the column for every version.
alter table read_markers add constraint last_read_id_is_set check (last_read_id is not null) not valid;
