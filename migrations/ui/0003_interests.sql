-- What the user prefers to read: words, the ids of authors, and topics of channels. The lengths are limited.
alter table preferences
    add column words text[] not null default '{}',
    add column people bigint[] not null default '{}',
    add column topics text[] not null default '{}';
