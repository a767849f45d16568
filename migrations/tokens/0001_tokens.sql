-- Proof of who is asking: the keys that tokens are signed with, and every token that could still be good.

create table signing_keys (
    -- The `kid` in the header of a token.
    id text primary key,
    -- PKCS#8. Never leaves this database: the journal below leaves it out.
    private_key bytea not null,
    -- What the registry shows to all who verify.
    public_jwk jsonb not null,
    created_at timestamptz not null default now(),
    -- A retired key signs nothing new, but what it signed stays good until it expires.
    retired_at timestamptz,
    version bigint not null default 1
);

-- One key signs at a time. Several instances that start together on an empty database all try to make it; this
-- index lets one of them win, and the others use what it made.
create unique index signing_keys_one_signs on signing_keys ((true)) where retired_at is null;

select attach_journal('signing_keys', 'signing_key', '{private_key}');

-- The token itself is not here: whoever holds it has the only copy.
create table tokens (
    id uuid primary key,
    -- No foreign key: users lives in another database.
    user_id bigint not null,
    -- When the password was about to be checked, not when the token was made: a password that changes in between
    -- must count as newer than the token.
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    -- When the registry had it. A revoked token without this is still to be published.
    revocation_published_at timestamptz,
    version bigint not null default 1
);

-- "All tokens of this user that are still good", when a password changes.
create index tokens_user_id on tokens (user_id) where revoked_at is null;
-- Revocations that the registry should know, and those among them that it does not know yet.
create index tokens_revoked on tokens (expires_at) where revoked_at is not null;
create index tokens_unpublished on tokens (revoked_at) where revoked_at is not null and revocation_published_at is null;
-- The cleanup deletes what has expired.
create index tokens_expires_at on tokens (expires_at);

select attach_journal('tokens', 'token');

-- Passwords that changed a short while ago, as heard from users. A token whose password was checked before the
-- change, but which is stored after it was heard, is refused with the help of this. Rows older than a
-- token's life are deleted when the next change is heard of.
create table password_changes (
    user_id bigint primary key,
    changed_at timestamptz not null
);
