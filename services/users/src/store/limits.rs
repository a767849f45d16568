//! SQL of the limits of guesses. Nothing here is journaled, and nothing waits for the disk: a crash of PostgreSQL may
//! give back the guesses of the last half second.

use std::{net::IpAddr, time::Duration};

use flack_common::database::StoreResult;

use super::Store;

/// A token bucket in the database, by the generic cell rate algorithm: its state is the time at which it is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Unique text. Only its hash is stored.
    pub key: String,
    pub tokens_max: u32,
    /// Time in which one token comes back.
    pub token_interval: Duration,
}

/// The result of taking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// `was_full`: nobody else has taken a token for a while.
    Token { was_full: bool },
    /// Time until there is a token again.
    Wait(Duration),
}

impl Store {
    /// Takes a token. Two instances never take the same one.
    pub async fn take_token(&self, bucket: &Bucket) -> StoreResult<Taken> {
        let (interval, before_last) = (bucket.token_interval, bucket.token_interval * (bucket.tokens_max - 1));
        // An empty bucket is only read: an attack on one account must not wait for the lock of one row.
        let state: Option<(bool, f64)> = sqlx::query_as(
            "with taken as (
                 insert into credential_limits as bucket (key, full_at)
                 select sha256(convert_to($1, 'UTF8')), now() + make_interval(secs => $2)
                 from set_config('synchronous_commit', 'off', true)
                 where not exists (
                     select from credential_limits
                     where key = sha256(convert_to($1, 'UTF8')) and full_at > now() + make_interval(secs => $3)
                 )
                 on conflict (key) do update
                     set full_at = greatest(bucket.full_at, now()) + make_interval(secs => $2)
                     where bucket.full_at <= now() + make_interval(secs => $3)
                 returning full_at
             )
             select true, extract(epoch from full_at - now())::float8 from taken
             union all
             select false, extract(epoch from full_at - now())::float8 from credential_limits
             where key = sha256(convert_to($1, 'UTF8')) and not exists (select from taken)",
        )
        .bind(&bucket.key)
        .bind(interval.as_secs_f64())
        .bind(before_last.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        Ok(match state {
            Some((true, full_in)) => Taken::Token { was_full: full_in <= interval.as_secs_f64() },
            Some((false, full_in)) => {
                Taken::Wait(Duration::try_from_secs_f64(full_in - before_last.as_secs_f64()).unwrap_or_default())
            }
            // Another request has made the row after this statement began, and has taken the last token.
            None => Taken::Wait(interval),
        })
    }

    pub async fn give_token_back(&self, bucket: &Bucket) -> StoreResult<()> {
        sqlx::query(
            "update credential_limits set full_at = full_at - make_interval(secs => $2)
             from set_config('synchronous_commit', 'off', true)
             where key = sha256(convert_to($1, 'UTF8'))",
        )
        .bind(&bucket.key)
        .bind(bucket.token_interval.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub async fn is_full(&self, bucket: &Bucket) -> StoreResult<bool> {
        Ok(sqlx::query_scalar(
            "select not exists (
                 select from credential_limits where key = sha256(convert_to($1, 'UTF8')) and full_at > now()
             )",
        )
        .bind(&bucket.key)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deletes up to `limit` full buckets and returns how many.
    pub async fn delete_full_buckets(&self, limit: i64) -> sqlx::Result<u64> {
        let deleted = sqlx::query(
            "delete from credential_limits
             where key in (select key from credential_limits where full_at < now() limit $1 for update skip locked)",
        )
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Returns nothing when the user has never signed in from this address, else whether a guess has failed there
    /// since.
    pub async fn find_known_address(&self, user_id: i64, address: IpAddr) -> StoreResult<Option<bool>> {
        Ok(sqlx::query_scalar(
            "select failed_at is not null from known_addresses where user_id = $1 and address = $2::inet",
        )
        .bind(user_id)
        .bind(address.to_string())
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Marks a known address, at which a guess has failed.
    pub async fn mark_failed(&self, user_id: i64, address: IpAddr) -> StoreResult<()> {
        sqlx::query(
            "update known_addresses set failed_at = now()
             from set_config('synchronous_commit', 'off', true)
             where user_id = $1 and address = $2::inet and failed_at is null",
        )
        .bind(user_id)
        .bind(address.to_string())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Stores an address from which the user has signed in. Of more than `limit`, the one used longest ago is deleted.
    pub async fn add_known_address(&self, user_id: i64, address: IpAddr, limit: i64) -> StoreResult<()> {
        // Most sign-ins come from an address that was seen a short time ago: they cost one read and no write.
        sqlx::query(
            "with added as (
                 insert into known_addresses as known (user_id, address)
                 select $1, $2::inet from set_config('synchronous_commit', 'off', true)
                 where not exists (
                     select from known_addresses
                     where user_id = $1 and address = $2::inet and failed_at is null
                       and last_success_at > now() - interval '1 hour'
                 )
                 on conflict (user_id, address) do update set last_success_at = now(), failed_at = null
                 returning address
             )
             delete from known_addresses
             where user_id = $1 and address in (
                 select address from known_addresses
                 where user_id = $1 and address <> $2::inet and exists (select from added)
                 order by last_success_at desc
                 offset $3
             )",
        )
        .bind(user_id)
        .bind(address.to_string())
        .bind(limit - 1)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
