-- no-transaction
-- For the pinned messages of a channel.
create index concurrently messages_pinned on messages (channel_id, pinned_at) where pinned_at is not null;
