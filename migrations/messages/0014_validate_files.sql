-- A migration of its own: in the transaction that adds the constraint, its lock would be held until the end.
alter table messages validate constraint messages_source_or_files_check;
