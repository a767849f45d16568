-- As migrations/ui, except that both columns user_id are foreign keys.

create table preferences (
    user_id bigint primary key references users (id) on delete cascade,
    theme text not null,
    notifications boolean not null,
    updated_at timestamptz not null default now(),
    version bigint not null default 1
);

create table read_markers (
    user_id bigint not null references users (id) on delete cascade,
    -- The name, without a foreign key: a marker may be set in a channel that does not exist yet.
    channel text not null,
    message_id bigint not null,
    updated_at timestamptz not null default now(),
    version bigint not null default 1,
    primary key (user_id, channel)
);

select attach_journal('preferences', 'preferences');
select attach_journal('read_markers', 'read_marker');
