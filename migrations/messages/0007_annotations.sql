-- Threads, mentions, reactions and pins: a message carries all of them, so each change is one event with the whole
-- message (docs/decisions/0031).

alter table messages
    -- Of a reply, the message that it replies to. No foreign key: no message is deleted, and a replica applies rows in
    -- the order of their changes.
    add column thread_id bigint,
    -- Replies that are not deleted, so that a page needs no query for each message.
    add column reply_count integer not null default 0,
    add column last_reply_at timestamptz,
    -- {"users": {"7": "ada"}, "everyone": false}: with the nicknames that the HTML shows, because a preview renders the
    -- message again. Null if the message mentions nobody.
    add column mentions jsonb,
    -- [{"emoji": "..", "user_ids": [7]}], in the order of their first use. The length is limited.
    add column reactions jsonb not null default '[]',
    add column pinned_at timestamptz,
    -- The version of the last change of reactions, replies or the pin. They do not change updated_at: version 1 of the
    -- API does not have them.
    add column annotated_version bigint not null default 0;
