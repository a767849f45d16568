-- no-transaction
-- For the users whom a message mentions: case does not matter, as for users_nickname_key.
create index concurrently nicknames_nickname on nicknames (lower(nickname));
