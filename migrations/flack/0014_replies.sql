-- no-transaction
-- For pages of the replies to a message.
create index concurrently messages_thread on messages (thread_id, id) where thread_id is not null;
