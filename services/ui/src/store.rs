//! All SQL of ui. Every write goes through `database::begin`, so that its journal row names the request.

use flack_api::{Context, Problem, ui::types};
use flack_common::database;
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

    pub async fn find_preferences(&self, user_id: i64) -> Result<Option<Preferences>, Problem> {
        sqlx::query_as("select user_id, theme, notifications from preferences where user_id = $1")
            .bind(user_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(database::problem)
    }

    /// Writes nothing when nothing changes: a row of the journal would tell of no news.
    pub async fn set_preferences(
        &self,
        context: &Context,
        user_id: i64,
        preferences: &types::Preferences,
    ) -> Result<(), Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        sqlx::query(
            "insert into preferences as stored (user_id, theme, notifications) values ($1, $2, $3)
             on conflict (user_id) do update
             set theme = excluded.theme, notifications = excluded.notifications, updated_at = now()
             where (stored.theme, stored.notifications) is distinct from (excluded.theme, excluded.notifications)",
        )
        .bind(user_id)
        .bind(preferences.theme.to_string())
        .bind(preferences.notifications)
        .execute(&mut *transaction)
        .await
        .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)
    }

    pub async fn list_read_markers(&self, user_id: i64) -> Result<Vec<ReadMarker>, Problem> {
        sqlx::query_as(
            "select user_id, channel, message_id, updated_at from read_markers
             where user_id = $1 order by channel limit $2",
        )
        .bind(user_id)
        .bind(READ_MARKERS_PER_USER_MAX)
        .fetch_all(&self.pool)
        .await
        .map_err(database::problem)
    }

    /// A marker never moves back: two windows of one user tell where they are in any order, and the further one is right.
    pub async fn set_read_marker(
        &self,
        context: &Context,
        user_id: i64,
        channel: &types::ChannelName,
        message_id: i64,
    ) -> Result<(), Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let has_room: bool = sqlx::query_scalar(
            "select exists (select from read_markers where user_id = $1 and channel = $2)
                 or (select count(*) from read_markers where user_id = $1) < $3",
        )
        .bind(user_id)
        .bind(channel.as_str())
        .bind(READ_MARKERS_PER_USER_MAX)
        .fetch_one(&mut *transaction)
        .await
        .map_err(database::problem)?;
        if !has_room {
            return Err(model::too_many_read_markers(user_id));
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
        .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)
    }
}
