//! All SQL of recommend.

use chrono::DateTime;
use flack_api::{
    GENERAL_CHANNEL_ID,
    events::{ChannelMemberModel, ChannelModel, ChannelModelKind, MessageModel},
};
use flack_common::database::StoreResult;
use sqlx::{PgConnection, PgPool};

/// Of each channel that the caller has joined, the words that are compared: its most frequent ones.
const WORDS_PER_CHANNEL_MAX: i64 = 200;

/// Of what the caller has written in `general`, the messages that are read: the newest ones.
const OWN_MESSAGES_MAX: i64 = 200;

/// The words of a caller that are compared, the most frequent ones. It bounds the time of a request.
const WORDS_PER_CALLER_MAX: i64 = 100;

/// Shared words that a recommendation shows.
const WORDS_SHOWN_MAX: i32 = 5;

/// Messages of the last days are counted up to this number, which means "or more".
const ACTIVE_MESSAGES_MAX: i64 = 100;

/// The last days in which messages count as activity.
const ACTIVE_DAYS: i32 = 7;

/// Added to the weight of the most frequent word of a channel, so that one message does not make a channel fit best.
const WEIGHT_SMOOTHING: f64 = 10.0;

/// A channel that the caller may like.
#[derive(Debug, sqlx::FromRow)]
pub struct Found {
    pub channel_id: i64,
    pub name: String,
    pub topic: String,
    /// The shared words, those that count most first.
    pub words: Vec<String>,
    /// Messages of the last days.
    pub messages: i32,
}

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Returns the best channels for a user.
    ///
    /// Only channels that the user has joined, and public ones, have an effect on the result: neither its words nor its
    /// order depend on private channels of others.
    pub async fn recommend(&self, user_id: i64, limit: i32) -> StoreResult<Vec<Found>> {
        Ok(sqlx::query_as(
            "with open as (
                 select channel_id, name, topic from channels where kind = 'public' and not is_archived
             ),
             candidate as (
                 select channel_id, name, topic from open
                 where channel_id <> $2 and not exists (
                     select from members where members.channel_id = open.channel_id and user_id = $1
                 )
             ),
             read as (
                 select word, ln(1 + sum(weight)::float8) as weight
                 from (
                     select frequent.word, frequent.weight
                     from members cross join lateral (
                         select word, weight from channel_words where channel_words.channel_id = members.channel_id
                         order by weight desc, word limit $3
                     ) as frequent
                     where user_id = $1 and members.channel_id <> $2
                     union all
                     select unnest(words), 1
                     from (
                         select words from messages where channel_id = $2 and user_id = $1 order by id desc limit $4
                     ) as written
                 ) as seen
                 group by word order by 2 desc, word limit $5
             ),
             shared as (
                 select channel_id, word, channel_words.weight, read.weight as read_weight,
                     count(*) over (partition by word) as channels
                 from read
                 inner join channel_words using (word)
                 inner join open using (channel_id)
             ),
             scored as (
                 select channel_id, word,
                     read_weight * ln(1 + (select count(*) from open)::float8 / channels)
                         * shared.weight / (most.weight + $6) as score
                 from shared
                 inner join candidate using (channel_id)
                 cross join lateral (
                     select weight from channel_words where channel_words.channel_id = shared.channel_id
                     order by channel_words.weight desc limit 1
                 ) as most
             ),
             best as (
                 select channel_id, sum(score) as score,
                     (array_agg(word order by score desc, word))[1:$7] as words
                 from scored group by channel_id
             )
             select channel_id, name, topic, coalesce(words, '{}') as words, messages
             from candidate
             left join best using (channel_id)
             cross join lateral (
                 select count(*)::integer as messages
                 from (
                     select from messages
                     where messages.channel_id = candidate.channel_id and posted_at > now() - make_interval(days => $8)
                     limit $9
                 ) as recent
             ) as active
             where score is not null or messages > 0
             order by score desc nulls last, messages desc, channel_id desc
             limit $10",
        )
        .bind(user_id)
        .bind(GENERAL_CHANNEL_ID)
        .bind(WORDS_PER_CHANNEL_MAX)
        .bind(OWN_MESSAGES_MAX)
        .bind(WORDS_PER_CALLER_MAX)
        .bind(WEIGHT_SMOOTHING)
        .bind(WORDS_SHOWN_MAX)
        .bind(ACTIVE_DAYS)
        .bind(ACTIVE_MESSAGES_MAX)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}

pub async fn set_channel(connection: &mut PgConnection, channel: &ChannelModel) -> sqlx::Result<()> {
    sqlx::query(
        "insert into channels (channel_id, name, topic, kind, is_archived, words)
         values ($1, $2, $3, $4, $5, words_of($2 || ' ' || $3))
         on conflict (channel_id) do update
         set name = excluded.name, topic = excluded.topic, kind = excluded.kind, is_archived = excluded.is_archived,
             words = excluded.words",
    )
    .bind(channel.id)
    .bind(&channel.name)
    .bind(channel.topic.as_deref().unwrap_or_default())
    .bind(channel.kind.unwrap_or(ChannelModelKind::Public).to_string())
    .bind(channel.archived_at.is_some())
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_channel(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("delete from channels where channel_id = $1").bind(id).execute(connection).await?;
    Ok(())
}

pub async fn set_member(connection: &mut PgConnection, member: &ChannelMemberModel) -> sqlx::Result<()> {
    sqlx::query("insert into members (channel_id, user_id) values ($1, $2) on conflict do nothing")
        .bind(member.channel_id)
        .bind(member.user_id)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn delete_member(connection: &mut PgConnection, member: &ChannelMemberModel) -> sqlx::Result<()> {
    sqlx::query("delete from members where channel_id = $1 and user_id = $2")
        .bind(member.channel_id)
        .bind(member.user_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes nothing when the words are the same, as after a reaction.
pub async fn set_message(connection: &mut PgConnection, message: &MessageModel) -> sqlx::Result<()> {
    sqlx::query(
        "insert into messages as stored (id, channel_id, user_id, posted_at, words)
         values ($1, $2, $3, $4, words_of($5))
         on conflict (id) do update set words = excluded.words where stored.words <> excluded.words",
    )
    .bind(message.id)
    .bind(message.channel_id)
    .bind(message.user_id)
    .bind(DateTime::from_timestamp(message.created_at, 0).unwrap_or_default())
    .bind(&message.source)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_message(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("delete from messages where id = $1").bind(id).execute(connection).await?;
    Ok(())
}
