-- How each user wants the app to look, and up to where each has read. No foreign keys: users and messages live in other
-- databases, and a marker may be set in a channel before anybody speaks there.

create table preferences (
    user_id bigint primary key,
    theme text not null,
    notifications boolean not null,
    updated_at timestamptz not null default now(),
    -- Counted up by the journal's trigger, so that a consumer can tell old from new.
    version bigint not null default 1
);

select attach_journal('preferences', 'preferences');

create table read_markers (
    user_id bigint not null,
    channel text not null,
    message_id bigint not null,
    updated_at timestamptz not null default now(),
    version bigint not null default 1,
    primary key (user_id, channel)
);

select attach_journal('read_markers', 'read_marker');
