-- How each user wants the app to look, and up to where each has read. As in migrations/ui, with foreign keys.

create table preferences (
    user_id bigint primary key references users (id) on delete cascade,
    theme text not null,
    notifications boolean not null,
    updated_at timestamptz not null default now(),
    version bigint not null default 1
);

select attach_journal('preferences', 'preferences');

create table read_markers (
    user_id bigint not null references users (id) on delete cascade,
    -- The name, and no foreign key, as the API says it: a marker may be set in a channel before anybody speaks there.
    channel text not null,
    message_id bigint not null,
    updated_at timestamptz not null default now(),
    version bigint not null default 1,
    primary key (user_id, channel)
);

select attach_journal('read_markers', 'read_marker');
