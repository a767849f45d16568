//! Pages of messages by id: a range of the index `messages_without_replies`, or of `messages_thread`.

use flack_common::database::StoreResult;
use sqlx::AssertSqlSafe;

use super::Store;
use crate::model::{COLUMNS, Message, PAGE_BYTES_MAX};

/// A list that has pages.
#[derive(Debug, Clone, Copy)]
pub enum List {
    /// The messages of a channel that are no replies.
    Channel(i64),
    /// The replies to a message.
    Thread(i64),
}

impl List {
    /// Returns the first column of the index, its value, and the condition of the index.
    fn parts(self) -> (&'static str, i64, &'static str) {
        match self {
            Self::Channel(id) => ("channel_id", id, "thread_id is null"),
            Self::Thread(id) => ("thread_id", id, "thread_id is not null"),
        }
    }
}

impl Store {
    /// Returns the newest messages of a list with ids below `id`, oldest first: at most `limit`, and not many bytes
    /// more than `PAGE_BYTES_MAX`. The oldest ones are left out.
    pub async fn messages_before(&self, list: List, id: i64, limit: i32) -> StoreResult<Vec<Message>> {
        let (column, ..) = list.parts();
        let side = format!("({column}, id) < ($1, $2) and {column} >= $1");
        self.nearest(list, &side, &format!("{column} desc, id desc"), id, limit).await
    }

    /// Returns the oldest messages of a list with ids above `id`, oldest first: at most `limit`, and not many bytes
    /// more than `PAGE_BYTES_MAX`. The newest ones are left out.
    pub async fn messages_after(&self, list: List, id: i64, limit: i32) -> StoreResult<Vec<Message>> {
        let (column, ..) = list.parts();
        let side = format!("({column}, id) > ($1, $2) and {column} <= $1");
        self.nearest(list, &side, &format!("{column}, id"), id, limit).await
    }

    /// Returns the first messages of a side of `id` in an order, which is that of their distance.
    ///
    /// `side` has no equation of the column, and `order` has both columns. Otherwise PostgreSQL may read the primary
    /// key instead, and with it the messages of all other channels.
    async fn nearest(&self, list: List, side: &str, order: &str, id: i64, limit: i32) -> StoreResult<Vec<Message>> {
        let (_, value, condition) = list.parts();
        // Lengths are read without the texts.
        let statement = format!(
            "with nearest as (
                 select {COLUMNS} from messages where {side} and {condition} order by {order} limit $3
             ),
             measured as (
                 select *,
                     sum(octet_length(source) + octet_length(html))
                         over (order by {order} rows between unbounded preceding and 1 preceding) as nearer
                 from nearest
             )
             select measured.*, nickname
             from measured left join nicknames on nicknames.user_id = measured.user_id
             where coalesce(nearer, 0) < $4 order by id"
        );
        Ok(sqlx::query_as(AssertSqlSafe(statement))
            .bind(value)
            .bind(id)
            .bind(limit)
            .bind(PAGE_BYTES_MAX)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Returns whether the list has messages with ids below `first`, and with ids above `last`.
    pub async fn has_messages_beside(&self, of: List, first: i64, last: i64) -> StoreResult<(bool, bool)> {
        let (column, value, condition) = of.parts();
        // Not `exists`: with a range that most rows are in, PostgreSQL prefers a scan of the table, which is long when
        // there is no such row after all.
        let statement = format!(
            "select
                 coalesce((
                     select id from messages where {column} between $1 and $1 and {condition}
                     order by {column}, id limit 1
                 ) < $2, false),
                 coalesce((
                     select id from messages where {column} between $1 and $1 and {condition}
                     order by {column} desc, id desc limit 1
                 ) > $3, false)"
        );
        Ok(sqlx::query_as(AssertSqlSafe(statement)).bind(value).bind(first).bind(last).fetch_one(&self.pool).await?)
    }
}
