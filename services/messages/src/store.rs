//! All SQL of messages. Every write sets `flack.correlation_id`, most of them by `database::begin`, so that its journal row
//! names the request.
//! The monolith links it too, for all that is the same in both shapes.
//!
//! Order of locks, so that no two writers wait for each other: the message first, its previews after.

mod previews;

use flack_api::{Context, Problem};
use flack_common::database;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    model::{self, GENERAL_CHANNEL, LIST_HOURS_MAX, LIST_MESSAGES_MAX, Message},
    render,
};

/// The constraint that says no to an author who is not there.
const AUTHOR_KEY: &str = "messages_user_id_fkey";

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// What became of a post.
#[derive(Debug)]
pub struct Inserted {
    pub message: Message,
    /// There are pages to fetch for it.
    pub is_linked: bool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The message; the first one again when this user has sent this key before. 409 when the key was for another source.
    ///
    /// One statement, which is its own transaction: the most frequent write takes one way to the database and back.
    pub async fn insert(
        &self,
        context: &Context,
        user_id: i64,
        source: &str,
        key: Option<Uuid>,
    ) -> Result<Inserted, Problem> {
        let links = links(source);
        let inserted: Option<Message> = sqlx::query_as(
            "with request as (
                 select set_config('flack.correlation_id', $1, true)
             ),
             message as (
                 insert into messages (user_id, channel_id, source, html, idempotency_key, idempotency_digest)
                 select
                     $2, (select id from channels where name = $3), $4, $5, $6,
                     case when $6::uuid is not null then sha256(convert_to($4, 'UTF8')) end
                 from request
                 on conflict on constraint messages_idempotency_key do nothing
                 returning id, user_id, channel_id, source, html, created_at, updated_at
             ),
             preview as (
                 insert into link_previews (message_id, position, url, correlation_id)
                 select message.id, link.place - 1, link.url, $1
                 from message, unnest($7::text[]) with ordinality as link (url, place)
             )
             select * from message",
        )
        .bind(&context.correlation_id)
        .bind(user_id)
        .bind(GENERAL_CHANNEL)
        .bind(source)
        .bind(render::render(source, &[]))
        .bind(key)
        .bind(&links)
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| gone_or(error, user_id))?;
        match inserted {
            Some(message) => Ok(Inserted { message, is_linked: !links.is_empty() }),
            None => Ok(Inserted { message: self.find_by_key(user_id, source, key).await?, is_linked: false }),
        }
    }

    /// What this user posted under this key before.
    async fn find_by_key(&self, user_id: i64, source: &str, key: Option<Uuid>) -> Result<Message, Problem> {
        let same_source: bool = sqlx::query_scalar(
            "select idempotency_digest = sha256(convert_to($3, 'UTF8'))
             from messages where user_id = $1 and idempotency_key = $2",
        )
        .bind(user_id)
        .bind(key)
        .bind(source)
        .fetch_one(&self.pool)
        .await
        .map_err(database::problem)?;
        if !same_source {
            return Err(model::key_reused());
        }
        sqlx::query_as(
            "select id, user_id, channel_id, source, html, created_at, updated_at
             from messages where user_id = $1 and idempotency_key = $2",
        )
        .bind(user_id)
        .bind(key)
        .fetch_one(&self.pool)
        .await
        .map_err(database::problem)
    }

    pub async fn list(
        &self,
        updated_since: Option<i64>,
        with_nickname: bool,
    ) -> Result<Vec<Message>, Problem> {
        sqlx::query_as(
            "select id, messages.user_id, channel_id, source, html, created_at, updated_at,
                 case when $2::boolean then nickname end as nickname
             from messages
             left join nicknames on $2 and nicknames.user_id = messages.user_id
             where updated_at > greatest(to_timestamp(coalesce($1::bigint, 0)), now() - make_interval(hours => $3))
             order by updated_at, id
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

    pub async fn find(&self, id: i64) -> Result<Option<Message>, Problem> {
        sqlx::query_as(
            "select id, user_id, channel_id, source, html, created_at, updated_at from messages where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(database::problem)
    }

    /// 404 when there is no such message, 403 when it is somebody else's. Its previews are fetched anew.
    pub async fn update(
        &self,
        context: &Context,
        user_id: i64,
        id: i64,
        source: &str,
    ) -> Result<(), Problem> {
        let mut transaction = database::begin(&self.pool, context).await.map_err(database::problem)?;
        let author: Option<i64> = sqlx::query_scalar("select user_id from messages where id = $1 for update")
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(database::problem)?;
        match author {
            None => return Err(model::no_such_message(id)),
            Some(author) if author != user_id => return Err(model::not_your_message(id)),
            Some(_) => {}
        }
        sqlx::query("update messages set source = $2, html = $3, updated_at = now() where id = $1")
            .bind(id)
            .bind(source)
            .bind(render::render(source, &[]))
            .execute(&mut *transaction)
            .await
            .map_err(database::problem)?;
        sqlx::query("delete from link_previews where message_id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(database::problem)?;
        queue_previews(&mut transaction, context, id, source).await.map_err(database::problem)?;
        transaction.commit().await.map_err(database::problem)
    }

    /// What users said a user is called now; ignored when we know something newer.
    pub async fn set_nickname(
        connection: &mut PgConnection,
        user_id: i64,
        nickname: &str,
        version: i64,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "insert into nicknames (user_id, nickname, version) values ($1, $2, $3)
             on conflict (user_id) do update set nickname = excluded.nickname, version = excluded.version
             where nicknames.version < excluded.version",
        )
        .bind(user_id)
        .bind(nickname)
        .bind(version)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The user is gone, and so is our copy.
    pub async fn forget_nickname(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from nicknames where user_id = $1").bind(user_id).execute(connection).await?;
        Ok(())
    }
}

/// In the monolith's database an author is a row of the table `users`; in the service's there is no such constraint.
fn gone_or(error: sqlx::Error, user_id: i64) -> Problem {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) {
        Some(AUTHOR_KEY) => model::caller_is_gone(user_id),
        _ => database::problem(error),
    }
}

/// Writes down which pages are to be fetched: in the transaction that stores the message, so that neither is without the other.
async fn queue_previews(
    connection: &mut PgConnection,
    context: &Context,
    message_id: i64,
    source: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into link_previews (message_id, position, url, correlation_id)
         select $1, link.place - 1, link.url, $3 from unnest($2::text[]) with ordinality as link (url, place)",
    )
    .bind(message_id)
    .bind(links(source))
    .bind(&context.correlation_id)
    .execute(connection)
    .await?;
    Ok(())
}

fn links(source: &str) -> Vec<String> {
    render::links(source).into_iter().map(Into::into).collect()
}
