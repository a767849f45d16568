//! The SQL of members of channels, and of their read positions.

use flack_api::{Context, GENERAL_CHANNEL_ID, messages_v2::types::ChannelKind};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::PgConnection;

use super::{Store, channels::access};
use crate::model::{
    self,
    channels::{self, CHANNELS_PER_USER_MAX, MEMBERS_PER_CHANNEL_MAX, Member},
};

impl Store {
    /// Returns the ids of the channels that the user has left, with the versions of the memberships.
    pub async fn left_channels(&self, user_id: i64) -> StoreResult<Vec<(i64, i64)>> {
        Ok(sqlx::query_as(
            "select channel_id, version from channel_members where user_id = $1 and left_at is not null
             order by channel_id limit $2",
        )
        .bind(user_id)
        .bind(CHANNELS_PER_USER_MAX)
        .fetch_all(&self.pool)
        .await?)
    }

    pub async fn list_members(&self, channel_id: i64) -> StoreResult<Vec<Member>> {
        Ok(sqlx::query_as(
            "select channel_id, user_id, joined_at, left_at, last_read_message_id, channel_members.version, nickname
             from channel_members left join nicknames using (user_id)
             where channel_id = $1 and left_at is null
             order by user_id limit $2",
        )
        .bind(channel_id)
        .bind(MEMBERS_PER_CHANNEL_MAX)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Makes a user a member: `caller` of a public channel, or another user, by a member.
    pub async fn add_member(&self, context: &Context, caller: i64, channel_id: i64, user_id: i64) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let access = access(&mut *transaction, caller, channel_id).await?;
        if user_id != caller {
            access.as_member()?;
            if access.kind == ChannelKind::Direct {
                return Err(channels::is_permanent(channel_id, "joined by others").into());
            }
            check_users(&mut transaction, caller, &[user_id]).await?;
        }
        let (is_known, is_full): (Option<bool>, bool) = sqlx::query_as(
            "select (select left_at is null from channel_members where channel_id = $1 and user_id = $2),
                 (select count(*) from channel_members where channel_id = $1 and left_at is null) >= $3",
        )
        .bind(channel_id)
        .bind(user_id)
        .bind(MEMBERS_PER_CHANNEL_MAX)
        .fetch_one(&mut *transaction)
        .await?;
        // Everybody is a member of `general` already.
        if is_known == Some(true) || channel_id == GENERAL_CHANNEL_ID {
            return Ok(());
        }
        // Concurrent requests can exceed both limits by their number.
        if is_full {
            return Err(channels::too_many_members(channel_id).into());
        }
        if is_known.is_none() {
            check_room(&mut transaction, &[user_id]).await?;
        }
        insert(&mut transaction, caller, channel_id, &[user_id]).await?;
        Ok(transaction.commit().await?)
    }

    /// Ends the membership of a user, if there is one: of the caller, or of another member of a private channel, which
    /// nobody enters without an invitation.
    pub async fn remove_member(
        &self,
        context: &Context,
        caller: i64,
        channel_id: i64,
        user_id: i64,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let access = access(&mut *transaction, caller, channel_id).await?;
        if user_id != caller && access.kind != ChannelKind::Private {
            return Err(channels::only_oneself(user_id).into());
        }
        if access.is_permanent() {
            return Err(channels::is_permanent(channel_id, "left").into());
        }
        sqlx::query(
            "update channel_members set left_at = now()
             where channel_id = $1 and user_id = $2 and left_at is null",
        )
        .bind(channel_id)
        .bind(user_id)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Moves the read position of a member forward, never back: two windows of one user send their positions in any
    /// order. In `general` it makes the row of the member. 404 when the channel has no such message.
    pub async fn set_read_position(
        &self,
        context: &Context,
        caller: i64,
        channel_id: i64,
        message_id: i64,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        access(&mut *transaction, caller, channel_id).await?.as_member()?;
        let is_of_channel: bool =
            sqlx::query_scalar("select exists (select from messages where id = $1 and channel_id = $2)")
                .bind(message_id)
                .bind(channel_id)
                .fetch_one(&mut *transaction)
                .await?;
        if !is_of_channel {
            return Err(model::no_message_of_channel(message_id, channel_id).into());
        }
        sqlx::query(
            "insert into channel_members as stored (channel_id, user_id, last_read_message_id) values ($1, $2, $3)
             on conflict (channel_id, user_id) do update set last_read_message_id = excluded.last_read_message_id
             where stored.last_read_message_id < excluded.last_read_message_id",
        )
        .bind(channel_id)
        .bind(caller)
        .bind(message_id)
        .execute(&mut *transaction)
        .await
        // The constraint exists only in the monolith's database.
        .on_constraint("channel_members_user_id_fkey", || model::author_is_gone(caller))?;
        Ok(transaction.commit().await?)
    }
}

/// Makes users members, or members again. What was posted before counts as read.
pub async fn insert(connection: &mut PgConnection, caller: i64, channel_id: i64, user_ids: &[i64]) -> StoreResult<()> {
    // The newest message is found as in `has_messages_beside`.
    sqlx::query(
        "insert into channel_members as stored (channel_id, user_id, last_read_message_id)
         select $1, user_id, coalesce((
             select id from messages where channel_id between $1 and $1 order by channel_id desc, id desc limit 1
         ), 0)
         from unnest($2::bigint[]) as user_id
         on conflict (channel_id, user_id) do update set
             left_at = null, joined_at = now(),
             last_read_message_id = greatest(stored.last_read_message_id, excluded.last_read_message_id)
         where stored.left_at is not null",
    )
    .bind(channel_id)
    .bind(user_ids)
    .execute(connection)
    .await
    // The constraint exists only in the monolith's database. Other users were looked up before.
    .on_constraint("channel_members_user_id_fkey", || model::author_is_gone(caller))?;
    Ok(())
}

/// 404 if one of the users, except the caller, is not known.
pub async fn check_users(connection: &mut PgConnection, caller: i64, user_ids: &[i64]) -> StoreResult<()> {
    let unknown: Option<i64> = sqlx::query_scalar(
        "select user_id from unnest($1::bigint[]) as user_id
         where user_id <> $2 and not exists (select from nicknames where nicknames.user_id = user_id.user_id)
         limit 1",
    )
    .bind(user_ids)
    .bind(caller)
    .fetch_optional(connection)
    .await?;
    unknown.map_or(Ok(()), |user_id| Err(channels::no_such_user(user_id).into()))
}

/// 409 if one of the users is or was a member of too many channels.
pub async fn check_room(connection: &mut PgConnection, user_ids: &[i64]) -> StoreResult<()> {
    let full: Option<i64> = sqlx::query_scalar(
        "select user_id from channel_members where user_id = any($1) and channel_id <> $2
         group by user_id having count(*) >= $3 limit 1",
    )
    .bind(user_ids)
    .bind(GENERAL_CHANNEL_ID)
    .bind(CHANNELS_PER_USER_MAX)
    .fetch_optional(connection)
    .await?;
    full.map_or(Ok(()), |user_id| Err(channels::too_many_channels_of(user_id).into()))
}
