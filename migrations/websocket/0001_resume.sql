-- The websocket service owns no data of its own but a copy of recent events: the shared inbox, which it reads in the order of
-- the stream when a client comes back with a cursor that is older than what memory holds.
create index inbox_resume on inbox (stream, sequence);
