-- Release 1, not a migration: one batch of the backfill, in its own transaction. The service runs it as a background
-- task until it returns no row: $1 and $2 are the key of the previous batch's last row, $3 the number of rows.
--
-- Only the rows of a batch are locked, and only for the time of one statement.
with batch as (
    select user_id, channel
    from read_markers
    where (user_id, channel) > ($1, $2)
    order by user_id, channel
    limit $3
),
filled as (
    update read_markers as marker
    set last_read_id = marker.message_id
    from batch
    where marker.user_id = batch.user_id and marker.channel = batch.channel and marker.last_read_id is null
)
select user_id, channel from batch order by user_id desc, channel desc limit 1
