//! All SQL of users. Every write goes through `database::begin`, so that its journal row names the request.

use std::time::Duration;

use flack_api::{Context, users::types::Nickname};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::PgPool;

use crate::model::{self, LIST_USERS_MAX, PRESENCE_WRITE_INTERVAL, User};

/// The unique index on nicknames, which decides between two concurrent requests for one nickname.
const NICKNAME_KEY: &str = "users_nickname_key";

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// The columns that `update` sets.
#[derive(Debug)]
pub struct Change<'a> {
    pub nickname: Option<&'a Nickname>,
    pub password_hash: Option<&'a str>,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// 409 when the nickname is taken.
    pub async fn insert(&self, context: &Context, nickname: &Nickname, password_hash: &str) -> StoreResult<User> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let user = sqlx::query_as(
            "insert into users (nickname, password_hash) values ($1, $2)
             returning id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at",
        )
        .bind(nickname.as_str())
        .bind(password_hash)
        .fetch_one(&mut *transaction)
        .await
        .on_constraint(NICKNAME_KEY, || model::nickname_taken(nickname.as_str()))?;
        transaction.commit().await?;
        Ok(user)
    }

    pub async fn list(&self, online: Option<bool>, updated_since: Option<i64>) -> StoreResult<Vec<User>> {
        Ok(sqlx::query_as(
            "select id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at
             from users
             where ($1::boolean is null or online = $1)
               and ($2::bigint is null or updated_at > to_timestamp($2))
             order by updated_at, id
             limit $3",
        )
        .bind(online)
        .bind(updated_since)
        .bind(LIST_USERS_MAX)
        .fetch_all(&self.pool)
        .await?)
    }

    pub async fn find(&self, id: i64) -> StoreResult<Option<User>> {
        Ok(sqlx::query_as(
            "select id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at
             from users where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Returns id and password hash of the user with this nickname in any case.
    pub async fn find_credentials(&self, nickname: &Nickname) -> StoreResult<Option<(i64, String)>> {
        Ok(sqlx::query_as("select id, password_hash from users where lower(nickname) = lower($1)")
            .bind(nickname.as_str())
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Marks the user as online and seen now. Returns false when there is no such user.
    pub async fn set_online(&self, context: &Context, id: i64) -> StoreResult<bool> {
        // Most signs of life come from users who are online already: they cost one read and no write.
        let fresh: Option<bool> = sqlx::query_scalar(
            "select online and last_seen_at > now() - make_interval(secs => $2) from users where id = $1",
        )
        .bind(id)
        .bind(PRESENCE_WRITE_INTERVAL.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        match fresh {
            None => return Ok(false),
            Some(true) => return Ok(true),
            Some(false) => {}
        }

        let mut transaction = database::begin(&self.pool, context).await?;
        let updated =
            sqlx::query("update users set online = true, last_seen_at = now(), updated_at = now() where id = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Returns false when there is no such user.
    pub async fn set_offline(&self, context: &Context, id: i64) -> StoreResult<bool> {
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query("update users set online = false, updated_at = now() where id = $1 and online")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let exists = sqlx::query_scalar("select exists (select from users where id = $1)")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(exists)
    }

    /// Returns false when there is no such user; 409 when another user has the nickname.
    pub async fn update(&self, context: &Context, id: i64, change: Change<'_>) -> StoreResult<bool> {
        let nickname = change.nickname.map(|nickname| nickname.as_str());
        let mut transaction = database::begin(&self.pool, context).await?;
        let updated = sqlx::query(
            "update users set
                 nickname = coalesce($2, nickname),
                 password_hash = coalesce($3, password_hash),
                 password_changed_at = case when $3 is null then password_changed_at else now() end,
                 updated_at = now()
             where id = $1",
        )
        .bind(id)
        .bind(nickname)
        .bind(change.password_hash)
        .execute(&mut *transaction)
        .await
        .on_constraint(NICKNAME_KEY, || model::nickname_taken(nickname.unwrap_or_default()))?;
        transaction.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Marks up to `limit` users as offline whose last sign of life is older than `silence`, and returns how many.
    /// Skips locked rows, so that several instances share the work.
    pub async fn set_silent_offline(&self, context: &Context, silence: Duration, limit: i64) -> sqlx::Result<u64> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let swept = sqlx::query(
            "update users set online = false, updated_at = now()
             where id in (
                 select id from users
                 where online and last_seen_at < now() - make_interval(secs => $1)
                 order by last_seen_at
                 limit $2
                 for update skip locked
             )",
        )
        .bind(silence.as_secs_f64())
        .bind(limit)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(swept.rows_affected())
    }
}
