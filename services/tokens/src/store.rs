//! All SQL of tokens. Every write of a journaled table goes through `database::begin`, so that its journal row names
//! the request.

use chrono::{DateTime, Utc};
use flack_api::{Context, TokenCaller};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::model::{self, RETIRED_KEY_LIFETIME, TOKEN_LIFETIME, Token};

/// Namespace of the advisory locks that serialize new tokens and password changes of one user.
const USER_LOCK: i32 = 0x746f_6b65;

/// The constraint exists only in the monolith's database.
const USER_KEY: &str = "tokens_user_id_fkey";

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// A revocation, which the registry has to hold until the token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Revocation {
    pub id: Uuid,
    pub expires_at: DateTime<Utc>,
}

/// A stored signing key.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    pub id: String,
    pub private_key: Vec<u8>,
}

/// What `insert` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    Stored,
    /// Nothing was stored: the password has changed since the token's `issued_at`.
    PasswordHasChanged,
    /// Nothing was stored: the key signs no new tokens.
    KeyIsRetired,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Returns the key that signs. Stores `offered` as this key when there is none.
    pub async fn signing_key(
        &self,
        context: &Context,
        offered: &StoredKey,
        public_jwk: &serde_json::Value,
    ) -> StoreResult<StoredKey> {
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

    /// Returns id and public half of each key that may have signed a token that is still valid.
    pub async fn public_keys(&self) -> sqlx::Result<Vec<(String, serde_json::Value)>> {
        sqlx::query_as(
            "select id, public_jwk from signing_keys
             where retired_at is null or retired_at > now() - make_interval(secs => $1)",
        )
        .bind(RETIRED_KEY_LIFETIME.as_secs_f64())
        .fetch_all(&self.pool)
        .await
    }

    /// Returns the id of each key whose tokens have all expired, or are refused because an operator has retired it in
    /// the past.
    pub async fn expired_keys(&self) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar("select id from signing_keys where retired_at <= now() - make_interval(secs => $1)")
            .bind(RETIRED_KEY_LIFETIME.as_secs_f64())
            .fetch_all(&self.pool)
            .await
    }

    /// Stores a token that the key `key_id` signed.
    pub async fn insert(&self, context: &Context, token: &Token, key_id: &str) -> StoreResult<Insertion> {
        let mut transaction = database::begin(&self.pool, context).await?;
        lock_user(&mut transaction, token.user_id).await?;
        let inserted = sqlx::query(
            "insert into tokens (id, user_id, issued_at, expires_at)
             select $1, $2, $3, $4
             where not exists (select from password_changes where user_id = $2 and changed_at > $3)
                 and exists (select from signing_keys where id = $5 and retired_at is null)",
        )
        .bind(token.id)
        .bind(token.user_id)
        .bind(token.issued_at)
        .bind(token.expires_at)
        .bind(key_id)
        .execute(&mut *transaction)
        .await
        .on_constraint(USER_KEY, || model::user_is_gone(token.user_id))?;
        if inserted.rows_affected() == 1 {
            transaction.commit().await?;
            return Ok(Insertion::Stored);
        }
        let signs = sqlx::query_scalar("select exists (select from signing_keys where id = $1 and retired_at is null)")
            .bind(key_id)
            .fetch_one(&mut *transaction)
            .await?;
        Ok(if signs { Insertion::PasswordHasChanged } else { Insertion::KeyIsRetired })
    }

    /// Marks the caller's token as revoked. Inserts it when another owner of tokens issued it.
    pub async fn revoke(&self, context: &Context, caller: &TokenCaller) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
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
        .on_constraint(USER_KEY, || model::user_is_gone(caller.user_id))?;
        Ok(transaction.commit().await?)
    }

    /// Returns revocations that may be missing in the registry, oldest first.
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

    /// Returns the revocations of all tokens that have not expired.
    pub async fn current_revocations(&self) -> sqlx::Result<Vec<Revocation>> {
        sqlx::query_as("select id, expires_at from tokens where revoked_at is not null and expires_at > now()")
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

    /// Deletes up to `limit` expired tokens and returns how many.
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

/// Stores a password change. The same change again has no effect. Runs in the transaction of the consumer.
pub async fn password_changed(
    connection: &mut PgConnection,
    user_id: i64,
    changed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
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
    // An older change has no valid token to refuse.
    sqlx::query("delete from password_changes where changed_at < now() - make_interval(secs => $1)")
        .bind(TOKEN_LIFETIME.as_secs_f64())
        .execute(connection)
        .await?;
    Ok(())
}

/// Revokes the user's tokens that were issued before `changed_at` and returns how many. Follows `password_changed` in
/// its transaction.
pub async fn revoke_issued_before(
    connection: &mut PgConnection,
    user_id: i64,
    changed_at: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let revoked = sqlx::query(
        "update tokens set revoked_at = now()
         where user_id = $1 and issued_at < $2 and revoked_at is null and expires_at > now()",
    )
    .bind(user_id)
    .bind(changed_at)
    .execute(connection)
    .await?;
    Ok(revoked.rows_affected())
}

/// Until the end of the transaction, no other transaction stores a token or a password change of this user.
async fn lock_user(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1, hashint8($2))")
        .bind(USER_LOCK)
        .bind(user_id)
        .execute(connection)
        .await?;
    Ok(())
}
