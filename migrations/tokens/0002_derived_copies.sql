-- When passwords changed is a copy. What is a copy can be thrown away and made anew, while the app runs:
--     mf events replay users --rebuild tokens
-- Until the replay has come, a token may be made whose password was checked just before it changed; the replay revokes it.

insert into derived_copies (name, source, entity, resource) values
    ('password_changes', 'users', 'user', 'users'),
    ('password_changes', 'monolith', 'user', 'users');

create function clear_derived_copy(source text) returns bigint
language sql as $$ select clear_told(source, 'user_changed', 'password_changes', 'user_id') $$;
