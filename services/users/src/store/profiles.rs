//! The SQL of profiles: columns of `users`, which version 1 of the API does not have.

use flack_api::Context;
use flack_common::database::{self, StoreResult};

use super::Store;
use crate::model::{LIST_PROFILES_MAX, User};

/// What a change of a profile sets. None: it stays as it is.
#[derive(Debug)]
pub struct ProfileChange<'a> {
    pub display_name: Option<&'a str>,
    pub about: Option<&'a str>,
    /// Some(None) removes the colour.
    pub hue: Option<Option<i16>>,
}

impl Store {
    /// Returns the users with an id above `after` whose profile is not empty, by id.
    pub async fn list_profiles(&self, after: i64) -> StoreResult<Vec<User>> {
        Ok(sqlx::query_as(
            "select id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at, display_name,
                 about, hue, version
             from users
             where id > $1 and (display_name <> '' or about <> '' or hue is not null)
             order by id limit $2",
        )
        .bind(after)
        .bind(LIST_PROFILES_MAX)
        .fetch_all(&self.pool)
        .await?)
    }

    pub async fn find_profile(&self, id: i64) -> StoreResult<Option<User>> {
        Ok(sqlx::query_as(
            "select id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at, display_name,
                 about, hue, version
             from users where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Changes a profile. Without a difference there is no event.
    pub async fn update_profile(&self, context: &Context, id: i64, change: &ProfileChange<'_>) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query(
            "update users set
                 display_name = coalesce($2, display_name),
                 about = coalesce($3, about),
                 hue = case when $4 then $5 else hue end,
                 updated_at = now()
             where id = $1 and (display_name, about, hue) is distinct from
                 (coalesce($2, display_name), coalesce($3, about), case when $4 then $5 else hue end)",
        )
        .bind(id)
        .bind(change.display_name)
        .bind(change.about)
        .bind(change.hue.is_some())
        .bind(change.hue.flatten())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}
