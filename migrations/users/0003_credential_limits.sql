-- Limits of the guesses of passwords. Shared by all instances, and kept when they restart. Not journaled: nobody else
-- needs them.

-- Token buckets (GCRA) of accounts and addresses.
create table credential_limits (
    -- SHA-256: a user may have typed a password in the place of a nickname.
    key bytea primary key,
    -- When the bucket has all its tokens again. Then the row is deleted, because no row means the same.
    full_at timestamptz not null
);

-- For the cleanup: longest full first.
create index credential_limits_full_at on credential_limits (full_at);

-- The addresses from which a user has signed in. Guesses from other addresses cannot lock the user out there.
create table known_addresses (
    user_id bigint not null references users (id) on delete cascade,
    -- An IPv4 address, or the /64 network of an IPv6 address.
    address inet not null,
    last_success_at timestamptz not null default now(),
    -- When a guess from this address was wrong. Removed by the next sign-in: requests without it are served first.
    failed_at timestamptz,
    primary key (user_id, address)
);
