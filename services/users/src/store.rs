//! All SQL of users. Every write goes through `database::begin`, so that its journal row names the request.

use std::time::Duration;

use flack_api::{Context, Problem, users::types::Nickname};
use flack_common::database;
use sqlx::PgPool;

use crate::model::{self, LIST_USERS_MAX, PRESENCE_WRITE_INTERVAL, User};

/// The index that says no to a nickname that is taken.
const NICKNAME_KEY: &str = "users_nickname_key";

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// What `update` is to change; what is absent stays.
#[derive(Debug)]
pub struct Change<'a> {
    pub nickname: Option<&'a Nickname>,
    pub password_hash: Option<&'a str>,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// 409 when somebody has the nickname.
    pub async fn insert(
        &self,
        context: &Context,
        nickname: &Nickname,
        password_hash: &str,
    ) -> Result<User, Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let user = sqlx::query_as(
            "insert into users (nickname, password_hash) values ($1, $2)
             returning id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at",
        )
        .bind(nickname.as_str())
        .bind(password_hash)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| taken_or(error, nickname))?;
        transaction.commit().await.map_err(database::problem)?;
        Ok(user)
    }

    pub async fn list(&self, online: Option<bool>, updated_since: Option<i64>) -> Result<Vec<User>, Problem> {
        sqlx::query_as(
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
        .await
        .map_err(database::problem)
    }

    pub async fn find(&self, id: i64) -> Result<Option<User>, Problem> {
        sqlx::query_as(
            "select id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at
             from users where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(database::problem)
    }

    /// Id and password hash of whoever has this nickname, however it is capitalised.
    pub async fn find_credentials(&self, nickname: &Nickname) -> Result<Option<(i64, String)>, Problem> {
        sqlx::query_as("select id, password_hash from users where lower(nickname) = lower($1)")
            .bind(nickname.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(database::problem)
    }

    /// Marks the user as here and seen now. Says `false` when there is no such user.
    pub async fn set_online(&self, context: &Context, id: i64) -> Result<bool, Problem> {
        // Most signs of life come from users who are known to be here: those cost one read and no write.
        let fresh: Option<bool> = sqlx::query_scalar(
            "select online and last_seen_at > now() - make_interval(secs => $2) from users where id = $1",
        )
        .bind(id)
        .bind(PRESENCE_WRITE_INTERVAL.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
        .map_err(database::problem)?;
        match fresh {
            None => return Ok(false),
            Some(true) => return Ok(true),
            Some(false) => {}
        }

        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let updated = sqlx::query(
            "update users set online = true, last_seen_at = now(), updated_at = now() where id = $1",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)?;
        Ok(updated.rows_affected() > 0)
    }

    /// Says `false` when there is no such user.
    pub async fn set_offline(&self, context: &Context, id: i64) -> Result<bool, Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        sqlx::query("update users set online = false, updated_at = now() where id = $1 and online")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(database::problem)?;
        let exists = sqlx::query_scalar("select exists (select from users where id = $1)")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await
            .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)?;
        Ok(exists)
    }

    /// Says `false` when there is no such user; 409 when somebody else has the nickname.
    pub async fn update(&self, context: &Context, id: i64, change: Change<'_>) -> Result<bool, Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let updated = sqlx::query(
            "update users set
                 nickname = coalesce($2, nickname),
                 password_hash = coalesce($3, password_hash),
                 password_changed_at = case when $3 is null then password_changed_at else now() end,
                 updated_at = now()
             where id = $1",
        )
        .bind(id)
        .bind(change.nickname.map(|nickname| nickname.as_str()))
        .bind(change.password_hash)
        .execute(&mut *transaction)
        .await
        .map_err(|error| match change.nickname {
            Some(nickname) => taken_or(error, nickname),
            None => database::problem(error),
        })?;
        transaction.commit().await.map_err(database::problem)?;
        Ok(updated.rows_affected() > 0)
    }

    /// Marks up to `limit` users as gone who gave no sign for `silence`; says how many. Rows that somebody else
    /// holds are left to the next round, so that sweepers of several instances share the work.
    pub async fn set_silent_offline(
        &self,
        context: &Context,
        silence: Duration,
        limit: i64,
    ) -> sqlx::Result<u64> {
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

/// The database decides who was first; asking beforehand would leave a gap between two who ask at once.
fn taken_or(error: sqlx::Error, nickname: &Nickname) -> Problem {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) {
        Some(NICKNAME_KEY) => model::nickname_taken(nickname),
        _ => database::problem(error),
    }
}
