select attach_part('users', '{users, nickname_keys, credential_limits, known_addresses}');
