-- The queue is empty most of the time, and the plan for the look into it is made then: to read the whole table. It is kept while
-- the queue grows because NATS is away, and each write would read all of the queue. By the index it is one look, always.
alter function journal_queue_limit() set enable_seqscan = off;
