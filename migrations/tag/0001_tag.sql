-- Tag: the words of messages, and what users prefer to read. Everything here is made from events of messages and ui.

create table channels (
    channel_id bigint primary key,
    kind text not null,
    -- Of its name and its topic.
    words tsvector not null
);

-- Present members. `general` has none: everybody is its member.
create table members (
    channel_id bigint not null,
    user_id bigint not null,
    -- As in the events, for clear_projection.
    entity_id text generated always as (channel_id::text || ':' || user_id::text) stored,
    primary key (user_id, channel_id)
);

-- Messages that are not deleted, without their texts. `simple`: words of every language, without stems.
create table messages (
    id bigint primary key,
    channel_id bigint not null,
    user_id bigint not null,
    words tsvector not null
);

-- Only of users who have interests.
create table preferences (
    user_id bigint primary key,
    words text[] not null,
    people bigint[] not null,
    topics text[] not null
);

-- `mf events replay <owner> --rebuild tag` rebuilds them.
insert into projections (name, source, entity, part)
select name, source, entity, part
from (
    values ('channels', 'channel', 'messages'), ('members', 'channel_member', 'messages'),
        ('messages', 'message', 'messages'), ('preferences', 'preferences', 'ui')
) as projection (name, entity, part)
cross join lateral (values (part), ('monolith')) as owner (source);

create function clear_projections(source text) returns bigint
language sql as $$
    select coalesce(sum(clear_projection($1, entity || '_changed', name::regclass, key)), 0)::bigint
    from projections
    inner join (
        values ('channels', 'channel_id'), ('members', 'entity_id'), ('messages', 'id'), ('preferences', 'user_id')
    ) as keys (name, key) using (name)
    where projections.source = $1
$$;
