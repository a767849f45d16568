//! The SQL of files. A message takes its files in the statement that inserts it (`store.rs`).

use flack_common::database::{OnConstraint, StoreResult};
use sqlx::FromRow;
use uuid::Uuid;

use super::Store;
use crate::model::{
    self,
    files::{self, FILE_BYTES_PER_USER_MAX, FILES_PER_USER_MAX, Sniffed, TABLE_BYTES_MAX, UNUSED_FILE_SECONDS_MAX},
};

/// A file that is stored.
#[derive(Debug)]
pub struct NewFile<'a> {
    pub name: &'a str,
    pub sniffed: Sniffed,
    pub content: &'a [u8],
}

/// A file with its content.
#[derive(Debug, FromRow)]
pub struct StoredFile {
    pub name: String,
    #[sqlx(rename = "type")]
    pub kind: String,
    pub content: Vec<u8>,
}

impl Store {
    /// Inserts a file, or finds the one that this user stored with `key` before, and returns its id. 409 when that one
    /// had another name, content or channel, or when the user has too many files.
    pub async fn insert_file(
        &self,
        user_id: i64,
        channel_id: i64,
        file: &NewFile<'_>,
        key: Option<Uuid>,
    ) -> StoreResult<i64> {
        // Concurrent requests can exceed the limits by their number.
        let inserted: Option<i64> = sqlx::query_scalar(
            "insert into files (user_id, channel_id, name, type, width, height, content, idempotency_key)
             select $1, $2, $3, $4, $5, $6, $7, $8
             from (
                 select count(*) as files, coalesce(sum(octet_length(content)), 0) as bytes
                 from files where user_id = $1
             ) as present
             where files < $9 and bytes + octet_length($7) <= $10 and pg_total_relation_size('files') < $11
             on conflict on constraint files_idempotency_key do nothing
             returning id",
        )
        .bind(user_id)
        .bind(channel_id)
        .bind(file.name)
        .bind(file.sniffed.kind)
        .bind(file.sniffed.size.map(|(width, _)| width))
        .bind(file.sniffed.size.map(|(_, height)| height))
        .bind(file.content)
        .bind(key)
        .bind(FILES_PER_USER_MAX)
        .bind(FILE_BYTES_PER_USER_MAX)
        .bind(TABLE_BYTES_MAX)
        .fetch_optional(&self.pool)
        .await
        // The constraint exists only in the monolith's database.
        .on_constraint("files_user_id_fkey", || model::author_is_gone(user_id))?;
        if let Some(id) = inserted {
            return Ok(id);
        }
        // A repeated request gives the message as much time as the first one did.
        let found: Option<(i64, bool)> = sqlx::query_as(
            "update files set created_at = case when message_id is null then now() else created_at end
             where user_id = $1 and idempotency_key = $2
             returning id, channel_id = $3 and name = $4 and content = $5",
        )
        .bind(user_id)
        .bind(key)
        .bind(channel_id)
        .bind(file.name)
        .bind(file.content)
        .fetch_optional(&self.pool)
        .await?;
        match found {
            Some((id, true)) => Ok(id),
            Some(_) => Err(model::key_reused().into()),
            None => Err(files::too_many_of_user().into()),
        }
    }

    /// Returns a file of a message.
    pub async fn find_file(&self, message_id: i64, id: i64) -> StoreResult<Option<StoredFile>> {
        Ok(sqlx::query_as("select name, type, content from files where message_id = $1 and id = $2")
            .bind(message_id)
            .bind(id)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Whether a message of the user in this channel can have all of these files.
    pub(super) async fn can_attach(&self, user_id: i64, channel_id: i64, ids: &[i64]) -> StoreResult<bool> {
        Ok(sqlx::query_scalar(
            "select count(*) = cardinality($3) from files
             where id = any($3) and user_id = $1 and channel_id = $2 and message_id is null",
        )
        .bind(user_id)
        .bind(channel_id)
        .bind(ids)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Deletes files that no message has and that are old, at most `limit`, and returns how many.
    pub async fn delete_unused_files(&self, limit: i64) -> sqlx::Result<u64> {
        let deleted = sqlx::query(
            "delete from files where id in (
                 select id from files where message_id is null and created_at < now() - make_interval(secs => $1)
                 order by created_at limit $2 for update skip locked
             )",
        )
        .bind(UNUSED_FILE_SECONDS_MAX)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected())
    }
}
