-- Search: projections of the events of messages and users, with an index of the words. Not journaled.

-- Words in the form in which they are indexed. As `english`, but without stop words: every word can be searched, and a
-- phrase has all of its words.
create text search dictionary word_stems (template = snowball, language = english);
create text search configuration message_words (copy = english);
alter text search configuration message_words
    alter mapping for asciiword, asciihword, hword_asciipart, word, hword, hword_part with word_stems;

create table channels (
    id bigint primary key,
    name text not null,
    kind text not null
);

-- For `in:`.
create index channels_name on channels (name);
-- For the channels that everybody can read. Most others are direct ones.
create index channels_public on channels (id) where kind = 'public';

-- Present members.
create table channel_members (
    -- As in the events.
    id text primary key generated always as (channel_id::text || ':' || user_id::text) stored,
    channel_id bigint not null,
    user_id bigint not null
);

-- For the channels that a user can read.
create index channel_members_user on channel_members (user_id);

create table nicknames (
    user_id bigint primary key,
    nickname text not null
);

-- For `from:`. Case does not matter.
create index nicknames_nickname on nicknames (lower(nickname));

-- An index of several columns, of which one is a list of words.
create extension if not exists btree_gin;

create table messages (
    id bigint primary key,
    channel_id bigint not null,
    user_id bigint not null,
    thread_id bigint,
    created_at timestamptz not null,
    -- A deleted message has no row.
    source text not null,
    words tsvector not null generated always as (to_tsvector('message_words', source)) stored,
    -- A query reads the newest matches bucket by bucket, and ends when it has enough. The index alone cannot return
    -- the newest ones first: a word that is in every third message would cost a third of the table.
    bucket bigint not null generated always as (id / 8192) stored
);

-- `fastupdate` would make each bucket of a query read the list of rows that are not in the index yet.
create index messages_words on messages using gin (bucket, channel_id, user_id, words) with (fastupdate = off);

-- For the buckets of `before:` and `after:`.
create index messages_created_at on messages (created_at, id);

-- `mf events replay <owner> --rebuild search` rebuilds them. Until the replay is consumed, messages are not found.
insert into projections (name, source, entity, part) values
    ('channels', 'messages', 'channel', 'messages'),
    ('channels', 'monolith', 'channel', 'messages'),
    ('channel_members', 'messages', 'channel_member', 'messages'),
    ('channel_members', 'monolith', 'channel_member', 'messages'),
    ('messages', 'messages', 'message', 'messages'),
    ('messages', 'monolith', 'message', 'messages'),
    ('nicknames', 'users', 'user', 'users'),
    ('nicknames', 'monolith', 'user', 'users');

create function clear_projections(source text) returns bigint
language sql as $$
    select coalesce(sum(clear_projection(
        $1, entity || '_changed', name::regclass, case name when 'nicknames' then 'user_id' else 'id' end
    )), 0)::bigint
    from projections where projections.source = $1
$$;
