//! All SQL of tokens. Every write of a journaled table goes through `database::begin`, so that its journal row
//! names the request.

use chrono::{DateTime, Utc};
use flack_api::{Context, Problem, TokenCaller};
use flack_common::database;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::model::{TOKEN_LIFETIME, Token};

/// Names the advisory locks that stand between a new token and a new password of the same user.
const USER_LOCK: i32 = 0x746f_6b65;

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// A revocation that the registry is to know until the token has expired anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Revocation {
    pub id: Uuid,
    pub expires_at: DateTime<Utc>,
}

/// A key as it is stored.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    pub id: String,
    pub private_key: Vec<u8>,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The key that signs. On an empty database it becomes the one that is offered, unless another instance was
    /// first.
    pub async fn signing_key(
        &self,
        context: &Context,
        offered: &StoredKey,
        public_jwk: &serde_json::Value,
    ) -> sqlx::Result<StoredKey> {
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query(
            "insert into signing_keys (id, private_key, public_jwk) values ($1, $2, $3)
             on conflict ((true)) where retired_at is null do nothing",
        )
        .bind(&offered.id)
        .bind(&offered.private_key)
        .bind(public_jwk)
        .execute(&mut *transaction)
        .await?;
        let key = sqlx::query_as("select id, private_key from signing_keys where retired_at is null")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(key)
    }

    /// Id and public half of each key that could have signed a token that is still good.
    pub async fn public_keys(&self) -> sqlx::Result<Vec<(String, serde_json::Value)>> {
        sqlx::query_as(
            "select id, public_jwk from signing_keys
             where retired_at is null or retired_at > now() - make_interval(secs => $1)",
        )
        .bind(TOKEN_LIFETIME.as_secs_f64())
        .fetch_all(&self.pool)
        .await
    }

    /// Says `false`, and stores nothing, when the user's password has changed since `issued_at`.
    pub async fn insert(&self, context: &Context, token: &Token) -> Result<bool, Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        lock_user(&mut transaction, token.user_id).await.map_err(database::problem)?;
        let inserted = sqlx::query(
            "insert into tokens (id, user_id, issued_at, expires_at)
             select $1, $2, $3, $4
             where not exists (select from password_changes where user_id = $2 and changed_at > $3)",
        )
        .bind(token.id)
        .bind(token.user_id)
        .bind(token.issued_at)
        .bind(token.expires_at)
        .execute(&mut *transaction)
        .await
        .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Marks the caller's token as revoked. A token that is not on record, because another owner of tokens issued
    /// it, is put on record as revoked.
    pub async fn revoke(&self, context: &Context, caller: &TokenCaller) -> Result<(), Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        sqlx::query(
            "insert into tokens (id, user_id, issued_at, expires_at, revoked_at)
             values ($1, $2, to_timestamp($3) - make_interval(secs => $4), to_timestamp($3), now())
             on conflict (id) do update set revoked_at = now() where tokens.revoked_at is null",
        )
        .bind(caller.token_id)
        .bind(caller.user_id)
        .bind(caller.expires_at)
        .bind(TOKEN_LIFETIME.as_secs_f64())
        .execute(&mut *transaction)
        .await
        .map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)
    }

    /// Revocations that the registry may not know yet, oldest first.
    pub async fn unpublished_revocations(&self, limit: i64) -> sqlx::Result<Vec<Revocation>> {
        sqlx::query_as(
            "select id, expires_at from tokens
             where revoked_at is not null and revocation_published_at is null and expires_at > now()
             order by revoked_at
             limit $1",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
    }

    /// Every revocation that still matters.
    pub async fn standing_revocations(&self) -> sqlx::Result<Vec<Revocation>> {
        sqlx::query_as(
            "select id, expires_at from tokens where revoked_at is not null and expires_at > now()",
        )
        .fetch_all(&self.pool)
        .await
    }

    pub async fn mark_published(&self, context: &Context, ids: &[Uuid]) -> sqlx::Result<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query(
            "update tokens set revocation_published_at = now()
             where id = any($1) and revocation_published_at is null",
        )
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Deletes up to `limit` expired tokens; says how many.
    pub async fn delete_expired(&self, context: &Context, limit: i64) -> sqlx::Result<u64> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let deleted = sqlx::query(
            "delete from tokens where id in (
                 select id from tokens where expires_at < now() limit $1 for update skip locked
             )",
        )
        .bind(limit)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected())
    }
}

/// A password has changed: revokes the user's older tokens, and says how many. Hearing of the same change twice
/// does nothing. Runs in the transaction in which the event counts as seen.
pub async fn password_changed(
    connection: &mut PgConnection,
    user_id: i64,
    changed_at: DateTime<Utc>,
) -> sqlx::Result<u64> {
    // No good token can be older than this change; every user who ever registered comes by here.
    if (Utc::now() - changed_at).to_std().is_ok_and(|age| age > TOKEN_LIFETIME) {
        return Ok(0);
    }
    lock_user(connection, user_id).await?;
    sqlx::query(
        "insert into password_changes (user_id, changed_at) values ($1, $2)
         on conflict (user_id) do update set changed_at = excluded.changed_at
         where password_changes.changed_at < excluded.changed_at",
    )
    .bind(user_id)
    .bind(changed_at)
    .execute(&mut *connection)
    .await?;
    // What is older than every good token has nothing left to refuse.
    sqlx::query("delete from password_changes where changed_at < now() - make_interval(secs => $1)")
        .bind(TOKEN_LIFETIME.as_secs_f64())
        .execute(&mut *connection)
        .await?;
    let revoked = sqlx::query(
        "update tokens set revoked_at = now()
         where user_id = $1 and issued_at < $2 and revoked_at is null and expires_at > now()",
    )
    .bind(user_id)
    .bind(changed_at)
    .execute(&mut *connection)
    .await?;
    Ok(revoked.rows_affected())
}

/// Until the end of the transaction, nobody else stores a token or a new password of this user.
async fn lock_user(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1, hashint8($2))")
        .bind(USER_LOCK)
        .bind(user_id)
        .execute(connection)
        .await?;
    Ok(())
}
