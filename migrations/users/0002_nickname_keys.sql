-- Keys of nicknames: no two users have confusable nicknames.

-- Two nicknames with a common key look alike: nobody can impersonate `paypal` with a Cyrillic letter or an upper-case
-- I. `services/users/src/nickname.rs` computes the keys, because PostgreSQL has no table of confusable characters.
--
-- A table of its own, not a column of `users`: a computed key is no change of the user, so it makes no journal row, no
-- version and no event.
create table nickname_keys (
    user_id bigint not null references users (id) on delete cascade,
    -- The nickname that the keys were computed from. An instance of an older version changes users.nickname without
    -- them; they are computed again when the two differ.
    nickname text not null,
    -- Compared byte by byte: no collation may hold two keys for equal.
    key text collate "C" not null,
    -- Set when an older user has this key: both registered before the keys existed, and both keep their nicknames.
    shared boolean not null default false,
    primary key (user_id, key)
);

-- A key has one holder besides those who share it. Its first column finds all of them.
-- The store maps a violation of this index to 409 nickname-taken.
create unique index nickname_keys_key on nickname_keys (key, (case when shared then user_id else 0 end));
