//! The SQL of tokens that one database makes different: a token belongs to a user who is right here. What is the same in
//! both shapes (keys, revocations, cleanup) is `flack_tokens::store`.

use flack_api::{Context, Problem};
use flack_common::database;
use flack_tokens::model::Token;
use sqlx::{PgConnection, PgPool};

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Says `false`, and stores nothing, when the user's password has changed since the token was asked for. The
    /// service needs a copy of password changes for this; here it is a look at the next table, locked in share mode
    /// so that a new password waits for the token, or the token sees it.
    pub async fn insert(&self, context: &Context, token: &Token) -> Result<bool, Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let inserted = sqlx::query(
            "with owner as (select id from users where id = $2 and password_changed_at <= $3 for share)
             insert into tokens (id, user_id, issued_at, expires_at)
             select $1, owner.id, $3, $4 from owner",
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
}

/// Revokes the user's good tokens that are older than the password; says how many. In the transaction in which the event
/// counts as seen.
pub async fn revoke_outdated(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<u64> {
    let revoked = sqlx::query(
        "update tokens set revoked_at = now()
         from users
         where users.id = $1
           and tokens.user_id = users.id
           and tokens.issued_at < users.password_changed_at
           and tokens.revoked_at is null
           and tokens.expires_at > now()",
    )
    .bind(user_id)
    .execute(connection)
    .await?;
    Ok(revoked.rows_affected())
}
