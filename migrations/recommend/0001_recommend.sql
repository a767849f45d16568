-- Recommend: the words of each channel. Everything here is made from events of messages.

-- Words without the most common English ones, in lower case, not stemmed: they are shown as the reason. Addresses and
-- numbers are left out.
create text search dictionary uncommon (template = pg_catalog.simple, stopwords = english);
create text search configuration topics (copy = pg_catalog.simple);
alter text search configuration topics alter mapping for asciiword, word, hword_part, hword_asciipart with uncommon;
alter text search configuration topics drop mapping for
    asciihword, hword, numhword, numword, hword_numpart, email, host, url, url_path, file, version, float, sfloat, int,
    uint;

-- The first 64 different words of a text with 3 to 32 characters.
create function words_of(source text) returns text[]
language sql immutable as $$
    select coalesce(array_agg(lexeme order by place), '{}')
    from (
        select lexeme, positions[1] as place from unnest(to_tsvector('topics', source))
        where char_length(lexeme) between 3 and 32
        order by place limit 64
    ) as found
$$;

create table channels (
    channel_id bigint primary key,
    name text not null,
    topic text not null,
    kind text not null,
    is_archived boolean not null,
    -- Of its name and its topic.
    words text[] collate "C" not null
);

-- For the channels that can be recommended. Most others are direct ones.
create index channels_open on channels (channel_id) where kind = 'public' and not is_archived;

-- Present members. `general` has none: everybody is its member.
create table members (
    channel_id bigint not null,
    user_id bigint not null,
    -- As in the events, for clear_projection.
    entity_id text generated always as (channel_id::text || ':' || user_id::text) stored,
    primary key (user_id, channel_id)
);

-- Messages that are not deleted, without their texts.
create table messages (
    id bigint primary key,
    channel_id bigint not null,
    user_id bigint not null,
    posted_at timestamptz not null,
    words text[] collate "C" not null
);

-- For the messages of the last days in a channel.
create index messages_posted_at on messages (channel_id, posted_at);
-- For what a user has written in `general`.
create index messages_user on messages (channel_id, user_id, id);

-- How often a channel has a word. Only the trigger below writes it, so no change of a message can omit it.
create table channel_words (
    channel_id bigint not null,
    word text collate "C" not null,
    -- The messages with this word. A word of the name or the topic counts as some more messages.
    weight bigint not null,
    primary key (channel_id, word)
);

-- For the words of a channel, the most frequent ones first.
create index channel_words_weight on channel_words (channel_id, weight desc, word);
-- For the channels with a word.
create index channel_words_word on channel_words (word, channel_id) include (weight);

-- Counts the words of a row: the argument is the weight of one.
create function count_words() returns trigger
language plpgsql as $$
declare
    amount bigint := tg_argv[0];
begin
    if tg_op <> 'INSERT' then
        update channel_words set weight = weight - amount where channel_id = old.channel_id and word = any(old.words);
        delete from channel_words where channel_id = old.channel_id and word = any(old.words) and weight <= 0;
    end if;
    if tg_op <> 'DELETE' then
        insert into channel_words as counted (channel_id, word, weight)
        select new.channel_id, word, amount from unnest(new.words) as word
        on conflict (channel_id, word) do update set weight = counted.weight + excluded.weight;
    end if;
    return null;
end
$$;

create trigger count_words after insert or delete or update of words on messages
    for each row execute function count_words(1);
create trigger count_words after insert or delete or update of words on channels
    for each row execute function count_words(10);

-- `mf events replay <owner of messages> --rebuild recommend` rebuilds them.
insert into projections (name, source, entity, part)
select name, source, entity, 'messages'
from (
    values ('channels', 'channel'), ('members', 'channel_member'), ('messages', 'message'), ('channel_words', 'message')
) as projection (name, entity)
cross join (values ('messages'), ('monolith')) as owner (source);

create function clear_projections(source text) returns bigint
language sql as $$
    select clear_projection(source, 'channel_changed', 'channels', 'channel_id')
        + clear_projection(source, 'channel_member_changed', 'members', 'entity_id')
        + clear_projection(source, 'message_changed', 'messages', 'id')
$$;
