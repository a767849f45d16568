-- no-transaction
-- For pages of a channel, and for counting its unread messages without reading the table. messages_channel stays: it
-- has replies as well.
create index concurrently messages_without_replies on messages (channel_id, id) include (user_id, deleted_at)
    where thread_id is null;
