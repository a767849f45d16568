//! The SQL of channels: what a user sees, and what a user may do.

use flack_api::{Context, GENERAL_CHANNEL_ID, messages_v2::types::ChannelKind};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::{AssertSqlSafe, PgExecutor};

use super::Store;
use crate::model::channels::{
    self, Access, ChannelView, DIRECT_PREFIX, PUBLIC_CHANNELS_MAX, UNREAD_MAX, UNREAD_SCANNED_MAX,
};

/// Hexadecimal digits of a digest that fit into the name of a direct channel: 100 bits.
const DIGEST_DIGITS: i32 = 25;

/// What a change of a channel sets. None: it stays as it is.
#[derive(Debug)]
pub struct ChannelChange {
    pub topic: Option<String>,
    pub is_archived: Option<bool>,
}

impl Store {
    /// Returns all public channels, and those of which the user is a member.
    pub async fn list_channels(&self, user_id: i64) -> StoreResult<Vec<ChannelView>> {
        let ids = "select id from channels where kind = 'public'
             union select channel_id from channel_members where user_id = $1 and left_at is null";
        self.views(user_id, ids, None).await
    }

    /// Returns the channel, unless it does not exist for the user.
    pub async fn find_channel(&self, user_id: i64, id: i64) -> StoreResult<Option<ChannelView>> {
        Ok(self.views(user_id, "$5", Some(id)).await?.pop())
    }

    async fn views(&self, user_id: i64, ids: &'static str, id: Option<i64>) -> StoreResult<Vec<ChannelView>> {
        // The range of the unread messages is written as in `nearest`, for the same reason.
        let statement = format!(
            "with seen as (
                 select channels.*, member.joined_at, member.last_read_message_id, member.version as member_version,
                     member.user_id is not null or channels.id = $2 as is_member
                 from channels
                 left join channel_members as member
                     on member.channel_id = channels.id and member.user_id = $1 and member.left_at is null
                 where channels.id in ({ids}) and (kind = 'public' or member.user_id is not null)
             )
             select id, name, created_at, kind, topic, archived_at, version, last_read_message_id, member_version,
                 case when is_member then coalesce(joined_at, created_at) end as joined_at,
                 case when is_member then (
                     select count(*)::integer from (
                         select from (
                             select user_id, deleted_at from messages
                             where (channel_id, messages.id) > (seen.id, coalesce(last_read_message_id, 0))
                                 and channel_id <= seen.id and thread_id is null
                             order by channel_id, messages.id
                             limit $3
                         ) as later
                         where user_id <> $1 and deleted_at is null
                         limit $4
                     ) as counted
                 ) end as unread,
                 case when is_member then (
                     select count(*)::integer from (
                         select from (
                             select user_id, mentions from messages
                             where (channel_id, messages.id) > (seen.id, coalesce(last_read_message_id, 0))
                                 and channel_id <= seen.id and mentions is not null
                             order by channel_id, messages.id
                             limit $3
                         ) as later
                         where user_id <> $1 and (mentions['users'] ? $1::text or mentions['everyone']::boolean)
                         limit $4
                     ) as counted
                 ) end as mentions,
                 case when kind = 'direct' then array(
                     select user_id from channel_members where channel_id = seen.id order by user_id
                 ) end as user_ids
             from seen order by id"
        );
        let query = sqlx::query_as(AssertSqlSafe(statement))
            .bind(user_id)
            .bind(GENERAL_CHANNEL_ID)
            .bind(UNREAD_SCANNED_MAX)
            .bind(UNREAD_MAX);
        let query = if let Some(id) = id { query.bind(id) } else { query };
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// Returns what the user may do in the channel. 404 if it does not exist for the user.
    pub async fn access(&self, user_id: i64, id: i64) -> StoreResult<Access> {
        access(&self.pool, user_id, id).await
    }

    /// Inserts a public or private channel with its first member, and returns its id.
    pub async fn create_channel(
        &self,
        context: &Context,
        user_id: i64,
        kind: ChannelKind,
        name: &str,
        topic: &str,
    ) -> StoreResult<i64> {
        let mut transaction = database::begin(&self.pool, context).await?;
        super::members::check_room(&mut transaction, &[user_id]).await?;
        if kind == ChannelKind::Public {
            let count: i64 = sqlx::query_scalar("select count(*) from channels where kind = 'public'")
                .fetch_one(&mut *transaction)
                .await?;
            // Concurrent requests can exceed it by their number.
            if count >= PUBLIC_CHANNELS_MAX {
                return Err(channels::too_many_public_channels().into());
            }
        }
        let id = sqlx::query_scalar("insert into channels (name, kind, topic) values ($1, $2, $3) returning id")
            .bind(name)
            .bind(kind.to_string())
            .bind(topic)
            .fetch_one(&mut *transaction)
            .await
            .on_constraint("channels_name_key", || channels::name_taken(name))?;
        super::members::insert(&mut transaction, user_id, id, &[user_id]).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Returns the id of the direct channel of these people, and makes it if there is none: then true. `people` are
    /// sorted, each once, and the caller is one of them.
    ///
    /// Its name is a digest of the people. So the constraint of names makes the same people find the same channel.
    pub async fn find_or_create_direct(
        &self,
        context: &Context,
        user_id: i64,
        people: &[i64],
    ) -> StoreResult<(i64, bool)> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let (name, found): (String, Option<i64>) = sqlx::query_as(
            "select direct.name, channels.id
             from (
                 select $1 || left(encode(sha256(convert_to(array_to_string($2::bigint[], ','), 'UTF8')), 'hex'), $3)
                     as name
             ) as direct
             left join channels using (name)",
        )
        .bind(DIRECT_PREFIX)
        .bind(people)
        .bind(DIGEST_DIGITS)
        .fetch_one(&mut *transaction)
        .await?;
        if let Some(id) = found {
            return Ok((id, false));
        }
        super::members::check_users(&mut transaction, user_id, people).await?;
        super::members::check_room(&mut transaction, people).await?;
        let inserted: Option<i64> = sqlx::query_scalar(
            "insert into channels (name, kind) values ($1, 'direct')
             on conflict on constraint channels_name_key do nothing returning id",
        )
        .bind(&name)
        .fetch_optional(&mut *transaction)
        .await?;
        let id = if let Some(id) = inserted {
            super::members::insert(&mut transaction, user_id, id, people).await?;
            id
        } else {
            // Another request of these people was faster.
            sqlx::query_scalar("select id from channels where name = $1")
                .bind(&name)
                .fetch_one(&mut *transaction)
                .await?
        };
        transaction.commit().await?;
        Ok((id, inserted.is_some()))
    }

    /// Changes topic and archive. 404 for strangers, 403 for other users who are no members, 412 when it has another
    /// version than `if_match`.
    pub async fn update_channel(
        &self,
        context: &Context,
        user_id: i64,
        id: i64,
        if_match: Option<i64>,
        change: &ChannelChange,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let access = access(&mut *transaction, user_id, id).await?.as_member()?;
        if if_match.is_some() {
            let version: i64 = sqlx::query_scalar("select version from channels where id = $1 for update")
                .bind(id)
                .fetch_one(&mut *transaction)
                .await?;
            super::check_version(if_match, version, version)?;
        }
        if change.is_archived == Some(true) && access.is_permanent() {
            return Err(channels::is_permanent(id, "archived").into());
        }
        // Without a change there is no event.
        sqlx::query(
            "update channels set topic = coalesce($2, topic),
                 archived_at = case $3 when true then coalesce(archived_at, now()) when false then null
                     else archived_at end
             where id = $1 and (
                 topic <> coalesce($2, topic)
                 or (archived_at is not null) <> coalesce($3, archived_at is not null)
             )",
        )
        .bind(id)
        .bind(&change.topic)
        .bind(change.is_archived)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

/// Returns what the user may do in the channel. 404 if it does not exist for the user.
pub async fn access(executor: impl PgExecutor<'_>, user_id: i64, id: i64) -> StoreResult<Access> {
    let found: Option<Access> = sqlx::query_as(
        "select id as channel_id, kind, id = $3 or exists (
             select from channel_members where channel_id = channels.id and user_id = $2 and left_at is null
         ) as is_member
         from channels where id = $1",
    )
    .bind(id)
    .bind(user_id)
    .bind(GENERAL_CHANNEL_ID)
    .fetch_optional(executor)
    .await?;
    found
        .filter(|access| access.is_member || access.kind == ChannelKind::Public)
        .ok_or_else(|| channels::no_such_channel(id).into())
}
