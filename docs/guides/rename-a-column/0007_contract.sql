-- Release 3: no instance of release 1 runs any more, so nobody uses message_id.

-- PostgreSQL does not read the table again: the validated constraint proves that there is no null.
-- mfcheck allow ban-new-write-restriction, adding-not-nullable-field: release 2 sets the column in each insert,
-- and last_read_id_is_set is valid.
alter table read_markers alter column last_read_id set not null;

-- mfcheck allow ban-drop-constraint: the column itself is not null now.
alter table read_markers drop constraint last_read_id_is_set;

-- mfcheck allow ban-drop-trigger: no instance writes message_id any more.
drop trigger copy_last_read_id on read_markers;

-- mfcheck allow ban-drop-function: only the trigger called it.
drop function read_markers_copy_last_read_id();

-- mfcheck allow ban-drop-column: release 2 does not read or write message_id, and release 1 has ended.
alter table read_markers drop column message_id;
