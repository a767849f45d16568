//! All SQL of tag.

use flack_api::events::{ChannelMemberModel, ChannelModel, ChannelModelKind, MessageModel, PreferencesModel};
use flack_common::database::StoreResult;
use sqlx::{PgConnection, PgPool};

/// The newest messages of the stack that are compared when a request names none. It bounds the time of a request.
const NEWEST_MESSAGES_MAX: i64 = 5_000;

/// A message that matches, and the interests that it matches.
#[derive(Debug, sqlx::FromRow)]
pub struct Found {
    pub message_id: i64,
    pub channel_id: i64,
    pub words: Vec<String>,
    pub people: Vec<i64>,
    pub topics: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Returns the messages that match the interests of a user, newest first: of `ids`, or of the newest ones of all.
    /// Only of channels that the user can read: public ones, and those of which the user is a member now.
    pub async fn matching(&self, user_id: i64, ids: Option<Vec<i64>>, limit: i32) -> StoreResult<Vec<Found>> {
        Ok(sqlx::query_as(
            "with wanted_words as materialized (
                 select word, place, phraseto_tsquery('simple', word) as query
                 from preferences cross join unnest(words) with ordinality as wanted (word, place)
                 where user_id = $1
             ),
             wanted_topics as materialized (
                 select topic, place, phraseto_tsquery('simple', topic) as query
                 from preferences cross join unnest(topics) with ordinality as wanted (topic, place)
                 where user_id = $1
             ),
             seen as (
                 (select id, channel_id, user_id, words from messages where id = any($2))
                 union all
                 (select id, channel_id, user_id, words from messages where $2 is null order by id desc limit $3)
             ),
             matched as (
                 select seen.id as message_id, seen.channel_id,
                     array(select word from wanted_words where seen.words @@ query order by place) as words,
                     case when seen.user_id = any(mine.people) then array[seen.user_id] else '{}' end as people,
                     array(select topic from wanted_topics where channels.words @@ query order by place) as topics
                 from seen
                 inner join channels using (channel_id)
                 inner join preferences as mine on mine.user_id = $1
                 where seen.user_id <> $1 and (
                     channels.kind = 'public'
                     or exists (select from members where members.channel_id = seen.channel_id and user_id = $1)
                 )
             )
             select message_id, channel_id, words, people, topics from matched
             where words <> '{}' or people <> '{}' or topics <> '{}'
             order by message_id desc limit $4",
        )
        .bind(user_id)
        .bind(ids)
        .bind(NEWEST_MESSAGES_MAX)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}

pub async fn set_channel(connection: &mut PgConnection, channel: &ChannelModel) -> sqlx::Result<()> {
    sqlx::query(
        "insert into channels (channel_id, kind, words)
         values ($1, $2, to_tsvector('simple', $3 || ' ' || $4))
         on conflict (channel_id) do update set kind = excluded.kind, words = excluded.words",
    )
    .bind(channel.id)
    .bind(channel.kind.unwrap_or(ChannelModelKind::Public).to_string())
    .bind(&channel.name)
    .bind(channel.topic.as_deref().unwrap_or_default())
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
        "insert into messages as stored (id, channel_id, user_id, words) values ($1, $2, $3, to_tsvector('simple', $4))
         on conflict (id) do update set words = excluded.words where stored.words <> excluded.words",
    )
    .bind(message.id)
    .bind(message.channel_id)
    .bind(message.user_id)
    .bind(&message.source)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_message(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("delete from messages where id = $1").bind(id).execute(connection).await?;
    Ok(())
}

pub async fn set_preferences(connection: &mut PgConnection, preferences: &PreferencesModel) -> sqlx::Result<()> {
    sqlx::query(
        "insert into preferences (user_id, words, people, topics) values ($1, $2, $3, $4)
         on conflict (user_id) do update
         set words = excluded.words, people = excluded.people, topics = excluded.topics",
    )
    .bind(preferences.user_id)
    .bind(&preferences.words)
    .bind(&preferences.people)
    .bind(&preferences.topics)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete_preferences(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
    sqlx::query("delete from preferences where user_id = $1").bind(user_id).execute(connection).await?;
    Ok(())
}
