-- As everybody does it who keeps a copy.
create or replace function clear_derived_copy(source text) returns bigint
language sql as $$ select clear_told(source, 'user_changed', 'nicknames', 'user_id') $$;
