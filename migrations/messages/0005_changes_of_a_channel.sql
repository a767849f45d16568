-- no-transaction
-- For `GET /api/messages?updated_since=`: only changes of the channel are read. The previous version uses
-- messages_updated_at.
create index concurrently messages_channel_updated_at on messages (channel_id, updated_at, id);
