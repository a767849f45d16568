-- Release 2. Reads the whole table, but blocks neither reads nor writes. A migration of its own: in the transaction of
-- 0005_constraint.sql, the lock that adds the constraint would be held until the end.
alter table read_markers validate constraint last_read_id_is_set;
