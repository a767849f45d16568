-- As migrations/messages/0003_channels.sql, except that channel_members.user_id is a foreign key.

alter table channels
    add column kind text not null default 'public',
    add column topic text not null default '',
    add column archived_at timestamptz;

-- mfcheck allow ban-new-write-restriction: the previous version writes neither column, and both defaults are allowed.
alter table channels add constraint channels_kind_check check (kind in ('public', 'private', 'direct')) not valid;

-- For the list of public channels.
-- mfcheck allow require-concurrent-index-creation: before this migration the table has one row.
create index channels_public on channels (id) where kind = 'public';

alter table messages
    -- By the author: a preview of a linked page changes updated_at alone.
    add column edited_at timestamptz,
    -- The row stays, with an empty source and empty HTML, so that clients learn of the deletion as of any change.
    add column deleted_at timestamptz;

-- mfcheck allow ban-new-write-restriction: it accepts every row that the constraint below accepts.
alter table messages add constraint messages_source_length_check
    check (char_length(source) <= 8192 and (source <> '' or deleted_at is not null)) not valid;
-- mfcheck allow ban-drop-constraint: the constraint above replaces it, and the previous version writes no empty source.
alter table messages drop constraint messages_source_check;

create table channel_members (
    channel_id bigint not null references channels (id),
    user_id bigint not null references users (id) on delete cascade,
    joined_at timestamptz not null default now(),
    -- A user who leaves keeps the row, so that its versions only grow.
    left_at timestamptz,
    last_read_message_id bigint not null default 0,
    version bigint not null default 1,
    primary key (channel_id, user_id)
);

-- For the channels of a user.
create index channel_members_user on channel_members (user_id);

select attach_journal('channel_members', 'channel_member');
select attach_part('messages', '{channel_members}');
