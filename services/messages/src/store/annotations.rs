//! The SQL of reactions and pins. They are no change of the text: `updated_at` stays, and `annotated_version` names the
//! version, so that clients of version 1 receive nothing.

use flack_api::{Context, Problem, events::ReactionModel};
use flack_common::database::{self, StoreResult};
use sqlx::{AssertSqlSafe, types::Json};

use super::Store;
use crate::model::{self, COLUMNS, Message, PINS_PER_CHANNEL_MAX};

impl Store {
    /// Changes the reactions to a message, unless `change` returns false. 404 when there is no such message, or it is
    /// deleted.
    pub async fn change_reactions(
        &self,
        context: &Context,
        id: i64,
        change: impl FnOnce(&mut Vec<ReactionModel>) -> Result<bool, Problem> + Send,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let reactions: Option<Json<Vec<ReactionModel>>> =
            sqlx::query_scalar("select reactions from messages where id = $1 and deleted_at is null for update")
                .bind(id)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(Json(mut reactions)) = reactions else { return Err(model::no_such_message(id).into()) };
        if !change(&mut reactions)? {
            return Ok(());
        }
        sqlx::query("update messages set reactions = $2, annotated_version = version + 1 where id = $1")
            .bind(id)
            .bind(Json(reactions))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Pins a message, unless it is pinned. 404 when it is deleted, 409 when the channel has too many pinned messages.
    pub async fn pin(&self, context: &Context, message: &Message) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let (is_pinned, is_deleted, is_full): (bool, bool, bool) = sqlx::query_as(
            "select pinned_at is not null, deleted_at is not null, (
                 select count(*) from messages where channel_id = $2 and pinned_at is not null
             ) >= $3
             from messages where id = $1 for update",
        )
        .bind(message.id)
        .bind(message.channel_id)
        .bind(PINS_PER_CHANNEL_MAX)
        .fetch_one(&mut *transaction)
        .await?;
        if is_deleted {
            return Err(model::no_such_message(message.id).into());
        }
        if is_pinned {
            return Ok(());
        }
        // Concurrent requests can exceed it by their number.
        if is_full {
            return Err(model::too_many_pins(message.channel_id).into());
        }
        sqlx::query("update messages set pinned_at = now(), annotated_version = version + 1 where id = $1")
            .bind(message.id)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Unpins a message, if it is pinned.
    pub async fn unpin(&self, context: &Context, id: i64) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        sqlx::query(
            "update messages set pinned_at = null, annotated_version = version + 1
             where id = $1 and pinned_at is not null",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Returns the pinned messages of a channel, the one that was pinned last first.
    pub async fn pinned(&self, channel_id: i64) -> StoreResult<Vec<Message>> {
        let statement = format!(
            "select pinned.*, nickname
             from (
                 select {COLUMNS} from messages where channel_id = $1 and pinned_at is not null
                 order by pinned_at desc, id desc limit $2
             ) as pinned
             left join nicknames on nicknames.user_id = pinned.user_id
             order by pinned_at desc, id desc"
        );
        Ok(sqlx::query_as(AssertSqlSafe(statement))
            .bind(channel_id)
            .bind(PINS_PER_CHANNEL_MAX)
            .fetch_all(&self.pool)
            .await?)
    }
}
