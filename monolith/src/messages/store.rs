//! The SQL of messages that one database makes different: an author's nickname is one join away. What is the same in
//! both shapes is `flack_messages::store`.

use flack_api::Problem;
use flack_common::database;
use flack_messages::model::{LIST_HOURS_MAX, LIST_MESSAGES_MAX, Message};
use sqlx::PgPool;

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// As the service's, but the nickname is what the author is called right now, not what we heard last.
    pub async fn list(
        &self,
        updated_since: Option<i64>,
        with_nickname: bool,
    ) -> Result<Vec<Message>, Problem> {
        sqlx::query_as(
            "select messages.id, messages.user_id, messages.channel_id, messages.source, messages.html,
                 messages.created_at, messages.updated_at, case when $2::boolean then users.nickname end as nickname
             from messages
             inner join users on users.id = messages.user_id
             where messages.updated_at
                 > greatest(to_timestamp(coalesce($1::bigint, 0)), now() - make_interval(hours => $3))
             order by messages.updated_at, messages.id
             limit $4",
        )
        .bind(updated_since)
        .bind(with_nickname)
        .bind(LIST_HOURS_MAX)
        .bind(LIST_MESSAGES_MAX)
        .fetch_all(&self.pool)
        .await
        .map_err(database::problem)
    }
}
