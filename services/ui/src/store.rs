//! All SQL of ui. Every write goes through `database::begin`, so that its journal row names the request.

use flack_api::{Context, ui::types};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::PgPool;

use crate::model::{self, Preferences, READ_MARKERS_PER_USER_MAX, ReadMarker};

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    pub async fn find_preferences(&self, user_id: i64) -> StoreResult<Option<Preferences>> {
        Ok(sqlx::query_as(
            "select user_id, theme, notifications, words, people, topics from preferences where user_id = $1",
        )
        .bind(user_id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Writes nothing when nothing changes, so that no event is published.
    pub async fn set_preferences(
        &self,
        context: &Context,
        user_id: i64,
        preferences: &types::Preferences,
    ) -> StoreResult<()> {
        let interests = preferences.interests.as_ref();
        let texts = |texts: &[types::Interest]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query(
            "insert into preferences as stored (user_id, theme, notifications, words, people, topics)
             values ($1, $2, $3, coalesce($4, '{}'), coalesce($5, '{}'), coalesce($6, '{}'))
             on conflict (user_id) do update
             set theme = excluded.theme, notifications = excluded.notifications,
                 words = coalesce($4, stored.words), people = coalesce($5, stored.people),
                 topics = coalesce($6, stored.topics), updated_at = now()
             where (stored.theme, stored.notifications, stored.words, stored.people, stored.topics)
                 is distinct from (
                     excluded.theme, excluded.notifications, coalesce($4, stored.words),
                     coalesce($5, stored.people), coalesce($6, stored.topics)
                 )",
        )
        .bind(user_id)
        .bind(preferences.theme.to_string())
        .bind(preferences.notifications)
        // Null: they stay as they are.
        .bind(interests.map(|interests| texts(&interests.words)))
        .bind(interests.map(|interests| &interests.people))
        .bind(interests.map(|interests| texts(&interests.topics)))
        .execute(&mut *transaction)
        .await
        // The constraint exists only in the monolith's database.
        .on_constraint("preferences_user_id_fkey", || model::caller_is_gone(user_id))?;
        Ok(transaction.commit().await?)
    }

    pub async fn list_read_markers(&self, user_id: i64) -> StoreResult<Vec<ReadMarker>> {
        Ok(sqlx::query_as(
            "select user_id, channel, message_id, updated_at from read_markers
             where user_id = $1 order by channel limit $2",
        )
        .bind(user_id)
        .bind(READ_MARKERS_PER_USER_MAX)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Moves a marker forward, never back: two windows of one user send their positions in any order.
    pub async fn set_read_marker(
        &self,
        context: &Context,
        user_id: i64,
        channel: &types::ChannelName,
        message_id: i64,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let has_room: bool = sqlx::query_scalar(
            "select exists (select from read_markers where user_id = $1 and channel = $2)
                 or (select count(*) from read_markers where user_id = $1) < $3",
        )
        .bind(user_id)
        .bind(channel.as_str())
        .bind(READ_MARKERS_PER_USER_MAX)
        .fetch_one(&mut *transaction)
        .await?;
        if !has_room {
            return Err(model::too_many_read_markers(user_id).into());
        }
        sqlx::query(
            "insert into read_markers as stored (user_id, channel, message_id) values ($1, $2, $3)
             on conflict (user_id, channel) do update
             set message_id = excluded.message_id, updated_at = now()
             where stored.message_id < excluded.message_id",
        )
        .bind(user_id)
        .bind(channel.as_str())
        .bind(message_id)
        .execute(&mut *transaction)
        .await
        // As above.
        .on_constraint("read_markers_user_id_fkey", || model::caller_is_gone(user_id))?;
        Ok(transaction.commit().await?)
    }
}
