-- As migrations/ui: what the user prefers to read. The lengths are limited.
alter table preferences
    add column words text[] not null default '{}',
    add column people bigint[] not null default '{}',
    add column topics text[] not null default '{}';
