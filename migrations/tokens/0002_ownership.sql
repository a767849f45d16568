-- password_changes is a projection of another owner's events: its consumer writes it at every role.
select attach_part('tokens', '{signing_keys, tokens}');
