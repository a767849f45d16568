-- no-transaction
-- For counting the unread messages that mention a user.
create index concurrently messages_mentions on messages (channel_id, id) where mentions is not null;
