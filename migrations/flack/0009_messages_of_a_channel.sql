-- no-transaction
-- For pages of a channel, and for counting its unread messages without reading the table.
create index concurrently messages_channel on messages (channel_id, id) include (user_id, deleted_at);
