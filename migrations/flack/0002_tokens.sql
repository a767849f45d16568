-- Proof of who is asking. As in migrations/tokens, except that a token belongs to a user of this very database,
-- and that "which tokens are older than their user's password" is a join instead of a copy of password changes.

create table signing_keys (
    id text primary key,
    -- PKCS#8. Never leaves this database: the journal below leaves it out.
    private_key bytea not null,
    public_jwk jsonb not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz,
    version bigint not null default 1
);

create unique index signing_keys_one_signs on signing_keys ((true)) where retired_at is null;

select attach_journal('signing_keys', 'signing_key', '{private_key}');

create table tokens (
    id uuid primary key,
    user_id bigint not null references users (id) on delete cascade,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    revocation_published_at timestamptz,
    version bigint not null default 1
);

create index tokens_user_id on tokens (user_id);
create index tokens_revoked on tokens (expires_at) where revoked_at is not null;
create index tokens_unpublished on tokens (revoked_at) where revoked_at is not null and revocation_published_at is null;
create index tokens_expires_at on tokens (expires_at);

select attach_journal('tokens', 'token');
