//! All SQL of users. Every write goes through `database::begin`, so that its journal row names the request.

mod limits;
mod profiles;

use std::time::Duration;

use flack_api::{Context, users::types};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::{PgPool, Postgres, Transaction};

use crate::{
    model::{self, LIST_USERS_MAX, PRESENCE_WRITE_INTERVAL, User},
    nickname::{self, Nickname},
};

/// The unique index on nicknames, which decides between two concurrent requests for one nickname.
const NICKNAME_KEY: &str = "users_nickname_key";

/// The unique index on keys, which decides between two concurrent requests for confusable nicknames.
const NICKNAME_KEYS_KEY: &str = "nickname_keys_key";

/// Sign-in compares at most this many nicknames. More share a key only where somebody registered confusable nicknames
/// before that was refused; an exact spelling is found all the same.
const SIGN_IN_CANDIDATES_MAX: i64 = 100;

pub use limits::{Bucket, Taken};
pub use profiles::ProfileChange;

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

    /// 409 when the nickname or a confusable one is taken.
    pub async fn insert(&self, context: &Context, nickname: &Nickname, password_hash: &str) -> StoreResult<User> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let user: User = sqlx::query_as(
            "insert into users (nickname, password_hash) values ($1, $2)
             returning id, nickname, online, last_seen_at, password_changed_at, created_at, updated_at",
        )
        .bind(nickname.as_str())
        .bind(password_hash)
        .fetch_one(&mut *transaction)
        .await
        .on_constraint(NICKNAME_KEY, || model::nickname_taken(nickname.as_str()))?;
        insert_keys(&mut transaction, user.id, nickname).await?;
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

    pub async fn password_hash(&self, id: i64) -> StoreResult<Option<String>> {
        Ok(sqlx::query_scalar("select password_hash from users where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Returns id and password hash of the user with this nickname, in any case and normalization. The exact spelling
    /// comes first: users of before the keys can have nicknames with one normal form.
    pub async fn find_credentials(&self, nickname: &types::Nickname) -> StoreResult<Option<(i64, String)>> {
        // `lower` finds also a user whose keys are not computed yet.
        let candidates: Vec<(i64, String, String, bool)> = sqlx::query_as(
            "select id, nickname, password_hash, lower(nickname) = lower($1)
             from users
             where id in (
                 select id from users where lower(nickname) = lower($1)
                 union
                 select user_id from nickname_keys where key = any($2)
             )
             order by nickname = $1 desc, lower(nickname) = lower($1) desc, id
             limit $3",
        )
        .bind(nickname.as_str())
        .bind(nickname::keys(nickname))
        .bind(SIGN_IN_CANDIDATES_MAX)
        .fetch_all(&self.pool)
        .await?;
        // A confusable nickname has the same key, but belongs to another user.
        let normal_form = nickname::normal_form(nickname);
        let user = candidates
            .into_iter()
            .find(|(_, candidate, _, same_case)| *same_case || nickname::normal_form(candidate) == normal_form);
        Ok(user.map(|(id, _, password_hash, _)| (id, password_hash)))
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

    /// Returns false when there is no such user; 409 when another user has the nickname or a
    /// confusable one.
    pub async fn update(&self, context: &Context, id: i64, change: Change<'_>) -> StoreResult<bool> {
        let nickname = change.nickname.map(Nickname::as_str);
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
        let exists = updated.rows_affected() > 0;
        if let Some(nickname) = change.nickname.filter(|_| exists) {
            delete_keys(&mut transaction, &[id]).await?;
            insert_keys(&mut transaction, id, nickname).await?;
        }
        transaction.commit().await?;
        Ok(exists)
    }

    /// Computes the keys of up to `limit` users with an id above `after` whose nickname has none, and returns the last
    /// of these users. A key that an older user has is shared with it.
    ///
    /// Writes no event, because no user changes. Several instances can do this at once.
    pub async fn fill_nickname_keys(&self, after: i64, limit: i64) -> sqlx::Result<Option<i64>> {
        // Nearly always nothing is missing: find that out without the lock.
        let is_missing: bool = sqlx::query_scalar(
            "select exists (
                 select from users
                 where id > $1 and not exists (
                     select from nickname_keys as held
                     where held.user_id = users.id and held.nickname = users.nickname
                 )
             )",
        )
        .bind(after)
        .fetch_one(&self.pool)
        .await?;
        if !is_missing {
            return Ok(None);
        }
        let mut transaction = self.pool.begin().await?;
        // Registrations wait for this transaction: whether a key is free does not change meanwhile.
        sqlx::query("lock table nickname_keys in share row exclusive mode").execute(&mut *transaction).await?;
        // A locked row is being renamed, with its keys, or deleted.
        let users: Vec<(i64, String)> = sqlx::query_as(
            "select id, nickname from users
             where id > $1 and not exists (
                 select from nickname_keys as held
                 where held.user_id = users.id and held.nickname = users.nickname
             )
             order by id
             limit $2
             for share skip locked",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;

        let ids: Vec<i64> = users.iter().map(|(id, _)| *id).collect();
        delete_keys(&mut transaction, &ids).await?;
        let (mut user_ids, mut nicknames, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (id, nickname) in &users {
            for key in nickname::keys(nickname) {
                user_ids.push(*id);
                nicknames.push(nickname.as_str());
                keys.push(key);
            }
        }
        sqlx::query(
            "insert into nickname_keys (user_id, nickname, key, shared)
             select user_id, nickname, key,
                 row_number() over (partition by key order by user_id) > 1
                     or exists (select from nickname_keys as held where held.key = missing.key)
             from unnest($1::bigint[], $2::text[], $3::text[]) as missing (user_id, nickname, key)",
        )
        .bind(user_ids)
        .bind(nicknames)
        .bind(keys)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ids.last().copied())
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

/// Gives the keys of the nickname to the user; 409 when another user has one of them.
async fn insert_keys(
    transaction: &mut Transaction<'_, Postgres>,
    user_id: i64,
    nickname: &Nickname,
) -> StoreResult<()> {
    // The index alone would admit another holder of a shared key whose first holder has left.
    let inserted = sqlx::query(
        "insert into nickname_keys (user_id, nickname, key)
         select $1, $2, key from unnest($3::text[]) as wanted (key)
         where not exists (select from nickname_keys as held where held.key = any($3))",
    )
    .bind(user_id)
    .bind(nickname.as_str())
    .bind(nickname.keys())
    .execute(&mut **transaction)
    .await
    .on_constraint(NICKNAME_KEYS_KEY, || model::nickname_taken(nickname.as_str()))?;
    if inserted.rows_affected() == 0 {
        return Err(model::nickname_taken(nickname.as_str()).into());
    }
    Ok(())
}

async fn delete_keys(transaction: &mut Transaction<'_, Postgres>, user_ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query("delete from nickname_keys where user_id = any($1)")
        .bind(user_ids)
        .execute(&mut **transaction)
        .await
        .map(drop)
}
