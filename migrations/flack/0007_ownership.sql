-- As in the databases of the services. password_changes is a projection, which its consumer writes at every role.
select attach_part('users', '{users, nickname_keys, credential_limits, known_addresses}');
select attach_part('tokens', '{signing_keys, tokens}');
select attach_part('messages', '{channels, messages, link_previews}');
select attach_part('ui', '{preferences, read_markers}');
