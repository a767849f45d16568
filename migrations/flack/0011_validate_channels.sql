-- A migration of its own: in the transaction that adds the constraints, their locks would be held until the end.
alter table channels validate constraint channels_kind_check;
alter table messages validate constraint messages_source_length_check;
