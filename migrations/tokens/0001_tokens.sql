-- Tokens: the keys that sign tokens, and every token that may still be valid.

create table signing_keys (
    -- The `kid` in the header of a token.
    id text primary key,
    -- PKCS#8. Never leaves this database: the journal omits it.
    private_key bytea not null,
    -- Published in the registry for all processes that verify tokens.
    public_jwk jsonb not null,
    created_at timestamptz not null default now(),
    -- A retired key signs no new tokens; tokens that it signed stay valid until they expire.
    retired_at timestamptz,
    version bigint not null default 1
);

-- One key signs at a time. When several instances start on an empty database, one insert succeeds and the others
-- use its key.
create unique index signing_keys_one_signs on signing_keys ((true)) where retired_at is null;

-- The signed token itself is not stored.
create table tokens (
    id uuid primary key,
    -- No foreign key: users is in another database.
    user_id bigint not null,
    -- Taken before the password is checked: a password change during the check must count as newer than the token.
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    -- When the registry had the revocation. Null for a revoked token: the revocation still has to be published.
    revocation_published_at timestamptz,
    version bigint not null default 1
);

-- For a password change: the user's tokens that are not revoked.
create index tokens_user_id on tokens (user_id) where revoked_at is null;
-- For the registry: all revocations, and those that are not published.
create index tokens_revoked on tokens (expires_at) where revoked_at is not null;
create index tokens_unpublished on tokens (revoked_at) where revoked_at is not null and revocation_published_at is null;
-- For the cleanup of expired tokens.
create index tokens_expires_at on tokens (expires_at);

select attach_journal('signing_keys', 'signing_key', '{private_key}');
select attach_journal('tokens', 'token');

-- Projection of user_changed: recent password changes. It refuses a token whose password was checked before the change
-- and that is inserted after the event. The consumer deletes rows older than the lifetime of a token.
create table password_changes (
    user_id bigint primary key,
    changed_at timestamptz not null
);

-- `mf events replay <owner of users> --rebuild <reader>` rebuilds it. Until the replay is consumed, a token can be
-- issued for a password that has just changed; the replay revokes it.
insert into projections (name, source, entity, part) values
    ('password_changes', 'users', 'user', 'users'),
    ('password_changes', 'monolith', 'user', 'users');

create function clear_projections(source text) returns bigint
language sql as $$ select clear_projection(source, 'user_changed', 'password_changes', 'user_id') $$;
