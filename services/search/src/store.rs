//! All SQL of search.

use chrono::{DateTime, Utc};
use flack_api::events::MessageModel;
use flack_common::database::StoreResult;
use sqlx::{PgConnection, PgPool};

use crate::{
    cursor::Cursor,
    excerpt::{EXCERPT_CHARACTERS_MAX, MARK_END, MARK_START},
    query::Query,
};

/// Matches of a search that are ranked: the newest ones. To rank all messages with a frequent word takes seconds.
pub const MATCHES_RANKED_MAX: i32 = 1_000;

/// What a search covers, as the caller may read at this moment.
#[derive(Debug, sqlx::FromRow)]
pub struct Scope {
    pub channel_ids: Vec<i64>,
    /// Of `in:`; none if the caller can read no channel of this name.
    pub channel_id: Option<i64>,
    /// Of `from:`; none if no user has this nickname.
    pub author_id: Option<i64>,
    /// The part of the words that the index finds: empty if there are none, and `T` if there are only exclusions.
    pub indexed: String,
    /// None if there is no message.
    pub newest_id: Option<i64>,
    newest_bucket: Option<i64>,
    oldest_bucket: Option<i64>,
}

/// A match with its excerpt.
#[derive(Debug, sqlx::FromRow)]
pub struct Match {
    pub id: i64,
    pub thread_id: Option<i64>,
    pub channel_id: i64,
    pub channel_name: String,
    pub user_id: i64,
    pub nickname: Option<String>,
    pub created_at: DateTime<Utc>,
    pub rank: f32,
    /// With [`MARK_START`] and [`MARK_END`] around words that were found.
    pub excerpt: String,
}

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Returns what the search of a user covers: all messages up to `newest_id`.
    pub async fn scope(&self, user_id: i64, query: &Query, newest_id: i64) -> StoreResult<Scope> {
        // Ids and times have almost the same order: the buckets of a time are one wider on each side.
        Ok(sqlx::query_as(
            "with readable as (
                 select id, name from channels where kind = 'public'
                 union
                 select channels.id, name
                 from channel_members inner join channels on channels.id = channel_id
                 where user_id = $1
             ),
             newest as (select id, bucket from messages where id <= $2 order by id desc limit 1)
             select
                 array(select id from readable) as channel_ids,
                 (select id from readable where name = $3) as channel_id,
                 (select user_id from nicknames where lower(nickname) = lower($4) order by user_id limit 1)
                     as author_id,
                 coalesce(querytree(websearch_to_tsquery('message_words', nullif($5, ''))), '') as indexed,
                 (select id from newest) as newest_id,
                 case when $6::timestamptz is null then (select bucket from newest) else least(
                     (select bucket from newest),
                     -- Without an older message: below all buckets.
                     coalesce(
                         (
                             select bucket + 1 from messages where created_at < $6
                             order by created_at desc, id desc limit 1
                         ),
                         -1
                     )
                 ) end as newest_bucket,
                 case when $7::timestamptz is null then (select bucket from messages order by id limit 1) else
                     (select bucket from messages where created_at >= $7 order by created_at, id limit 1) - 1
                 end as oldest_bucket",
        )
        .bind(user_id)
        .bind(newest_id)
        .bind(&query.channel)
        .bind(&query.author)
        .bind(&query.words)
        .bind(query.before)
        .bind(query.since)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Returns the best matches after the cursor, at most `limit`.
    pub async fn search(
        &self,
        scope: &Scope,
        query: &Query,
        after: Option<Cursor>,
        limit: i32,
    ) -> StoreResult<Vec<Match>> {
        let options = format!(
            "StartSel=\"{MARK_START}\", StopSel=\"{MARK_END}\", MaxFragments=2, MinWords=10, MaxWords=30, ShortWord=0, \
             FragmentDelimiter=\" … \""
        );
        // `generate_series` is read as far as the limit needs it, from the newest bucket on. Not an equation of
        // channel_id: the index would be read once for each readable channel.
        let matches = sqlx::query_as(
            "select page.id, thread_id, messages.channel_id, channels.name as channel_name, messages.user_id, nickname,
                 created_at, rank,
                 case when $1 = '' then left(translate(source, $3, ''), $2 + 1) else ts_headline(
                     'message_words', translate(source, $3, ''), websearch_to_tsquery('message_words', $1),
                     $4 || case when char_length(source) <= $2 then ', HighlightAll=true' else '' end
                 ) end as excerpt
             from (
                 select id, rank
                 from (
                     select id,
                         case when $1 = '' then 0 else ts_rank_cd(words, websearch_to_tsquery('message_words', $1)) end
                             as rank
                     from (
                         select match.*
                         from generate_series($5, $6, -1) as newest_first (bucket)
                         cross join lateral (
                             select id, words
                             from messages
                             where messages.bucket = newest_first.bucket and id <= $7
                                 and ($1 = '' or words @@ websearch_to_tsquery('message_words', $1))
                                 and ($8::bigint is null or channel_id = $8) and channel_id + 0 = any($9)
                                 and ($10::bigint is null or user_id = $10)
                                 and ($11::timestamptz is null or created_at < $11)
                                 and ($12::timestamptz is null or created_at >= $12)
                             order by id desc
                             limit $13
                         ) as match
                         limit $13
                     ) as newest
                 ) as ranked
                 where $14::real is null or (rank, id) < ($14, $15)
                 order by rank desc, id desc
                 limit $16
             ) as page
             inner join messages using (id)
             inner join channels on channels.id = messages.channel_id
             left join nicknames on nicknames.user_id = messages.user_id
             order by rank desc, page.id desc",
        )
        .bind(if scope.indexed.is_empty() { "" } else { query.words.as_str() })
        .bind(i32::try_from(EXCERPT_CHARACTERS_MAX).unwrap_or(i32::MAX))
        .bind(String::from_iter([MARK_START, MARK_END]))
        .bind(options)
        .bind(scope.newest_bucket)
        .bind(scope.oldest_bucket)
        .bind(scope.newest_id)
        .bind(scope.channel_id)
        .bind(&scope.channel_ids)
        .bind(scope.author_id)
        .bind(query.before)
        .bind(query.since)
        .bind(MATCHES_RANKED_MAX)
        .bind(after.map(|after| after.rank))
        .bind(after.map(|after| after.id))
        .bind(limit)
        // The plan depends on which parameters are null, and on the words.
        .persistent(false)
        .fetch_all(&self.pool)
        .await?;
        Ok(matches)
    }

    pub async fn set_nickname(connection: &mut PgConnection, user_id: i64, nickname: &str) -> sqlx::Result<()> {
        sqlx::query(
            "insert into nicknames (user_id, nickname) values ($1, $2)
             on conflict (user_id) do update set nickname = excluded.nickname",
        )
        .bind(user_id)
        .bind(nickname)
        .execute(connection)
        .await
        .map(drop)
    }

    pub async fn delete_nickname(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from nicknames where user_id = $1").bind(user_id).execute(connection).await.map(drop)
    }

    pub async fn set_channel(connection: &mut PgConnection, id: i64, name: &str, kind: &str) -> sqlx::Result<()> {
        sqlx::query(
            "insert into channels (id, name, kind) values ($1, $2, $3)
             on conflict (id) do update set name = excluded.name, kind = excluded.kind",
        )
        .bind(id)
        .bind(name)
        .bind(kind)
        .execute(connection)
        .await
        .map(drop)
    }

    pub async fn delete_channel(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from channels where id = $1").bind(id).execute(connection).await.map(drop)
    }

    pub async fn set_member(connection: &mut PgConnection, channel_id: i64, user_id: i64) -> sqlx::Result<()> {
        sqlx::query("insert into channel_members (channel_id, user_id) values ($1, $2) on conflict do nothing")
            .bind(channel_id)
            .bind(user_id)
            .execute(connection)
            .await
            .map(drop)
    }

    pub async fn delete_member(connection: &mut PgConnection, channel_id: i64, user_id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from channel_members where channel_id = $1 and user_id = $2")
            .bind(channel_id)
            .bind(user_id)
            .execute(connection)
            .await
            .map(drop)
    }

    /// Writes a message. An event of a reaction or a pin has the same source, and changes nothing.
    pub async fn set_message(
        connection: &mut PgConnection,
        message: &MessageModel,
        created_at: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "insert into messages as stored (id, channel_id, user_id, thread_id, created_at, source)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update set source = excluded.source where stored.source <> excluded.source",
        )
        .bind(message.id)
        .bind(message.channel_id)
        .bind(message.user_id)
        .bind(message.thread_id)
        .bind(created_at)
        .bind(&message.source)
        .execute(connection)
        .await
        .map(drop)
    }

    pub async fn delete_message(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from messages where id = $1").bind(id).execute(connection).await.map(drop)
    }
}
