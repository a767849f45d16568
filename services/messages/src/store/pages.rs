//! Pages of messages of a channel by id: a range of the index `messages_channel`.

use flack_common::database::StoreResult;
use sqlx::AssertSqlSafe;

use super::Store;
use crate::model::{Message, PAGE_BYTES_MAX};

impl Store {
    /// Returns the newest messages of a channel with ids below `id`, oldest first: at most `limit`, and not many bytes
    /// more than `PAGE_BYTES_MAX`. The oldest ones are left out.
    pub async fn messages_before(&self, channel_id: i64, id: i64, limit: i32) -> StoreResult<Vec<Message>> {
        let side = "(channel_id, id) < ($1, $2) and channel_id >= $1";
        self.nearest(side, "channel_id desc, id desc", channel_id, id, limit).await
    }

    /// Returns the oldest messages of a channel with ids above `id`, oldest first: at most `limit`, and not many bytes
    /// more than `PAGE_BYTES_MAX`. The newest ones are left out.
    pub async fn messages_after(&self, channel_id: i64, id: i64, limit: i32) -> StoreResult<Vec<Message>> {
        self.nearest("(channel_id, id) > ($1, $2) and channel_id <= $1", "channel_id, id", channel_id, id, limit).await
    }

    /// Returns the first messages of a side of `id` in an order, which is that of their distance.
    ///
    /// `side` has no equation of `channel_id`, and `order` has both columns. Otherwise PostgreSQL may read the primary
    /// key instead, and with it the messages of all other channels.
    async fn nearest(
        &self,
        side: &'static str,
        order: &'static str,
        channel_id: i64,
        id: i64,
        limit: i32,
    ) -> StoreResult<Vec<Message>> {
        // Lengths are read without the texts.
        let statement = format!(
            "with nearest as (
                 select id, user_id, channel_id, source, html, created_at, updated_at, edited_at, deleted_at
                 from messages where {side} order by {order} limit $3
             ),
             measured as (
                 select *,
                     sum(octet_length(source) + octet_length(html))
                         over (order by {order} rows between unbounded preceding and 1 preceding) as nearer
                 from nearest
             )
             select id, measured.user_id, channel_id, source, html, created_at, updated_at, edited_at, deleted_at,
                 nickname
             from measured left join nicknames on nicknames.user_id = measured.user_id
             where coalesce(nearer, 0) < $4 order by id"
        );
        Ok(sqlx::query_as(AssertSqlSafe(statement))
            .bind(channel_id)
            .bind(id)
            .bind(limit)
            .bind(PAGE_BYTES_MAX)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Returns whether the channel has messages with ids below `first`, and with ids above `last`.
    pub async fn has_messages_beside(&self, channel_id: i64, first: i64, last: i64) -> StoreResult<(bool, bool)> {
        // Not `exists`: with a range that most rows are in, PostgreSQL prefers a scan of the table, which is long when
        // there is no such row after all.
        Ok(sqlx::query_as(
            "select
                 coalesce((
                     select id from messages where channel_id between $1 and $1 order by channel_id, id limit 1
                 ) < $2, false),
                 coalesce((
                     select id from messages where channel_id between $1 and $1
                     order by channel_id desc, id desc limit 1
                 ) > $3, false)",
        )
        .bind(channel_id)
        .bind(first)
        .bind(last)
        .fetch_one(&self.pool)
        .await?)
    }
}
