//! All SQL of messages. Every write sets `flack.correlation_id`, so that its journal row names the request.
//!
//! Lock order: the message before its previews, and a reply before the message that it replies to, so that no two
//! writers wait for each other.

mod pages;
mod annotations;
mod files;
mod previews;
mod channels;
mod members;

use std::collections::{BTreeMap, BTreeSet};

use flack_api::{Context, GENERAL_CHANNEL_ID};
use flack_common::database::{self, OnConstraint, StoreResult};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

pub use channels::ChannelChange;
pub use files::NewFile;
pub use pages::List;

use crate::{
    mentions::{MENTIONS_MAX, Mentions},
    model::{self, COLUMNS, LIST_BYTES_MAX, LIST_HOURS_MAX, LIST_MESSAGES_MAX, Message, Rendered},
};

/// What a new message is, beside its author and its HTML.
#[derive(Debug)]
pub struct NewMessage<'a> {
    pub channel_id: i64,
    /// The message that it replies to.
    pub thread_id: Option<i64>,
    pub source: &'a str,
    /// In the order in which they are shown.
    pub file_ids: &'a [i64],
}

impl NewMessage<'_> {
    /// Returns what distinguishes a retry from another message with the same key. A source has no NUL character.
    fn digested(&self) -> Vec<u8> {
        let mut bytes = self.source.as_bytes().to_vec();
        for id in self.file_ids {
            bytes.push(0);
            bytes.extend(id.to_be_bytes());
        }
        bytes
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Inserts a message into a channel, which may be a reply and take files, or returns the one that this user
    /// posted with `key` before. 409 when that one had another source, channel, thread or files, or when the channel is
    /// archived; 404 or 403 for a user who is no member; 404 when the message can have no reply, or these files.
    ///
    /// One statement, which is its own transaction: the most frequent write needs one round trip.
    pub async fn insert(
        &self,
        context: &Context,
        user_id: i64,
        new: &NewMessage<'_>,
        rendered: &Rendered<'_>,
        key: Option<Uuid>,
    ) -> StoreResult<Message> {
        let inserted = sqlx::query_as(
            "with request as (
                 select set_config('flack.correlation_id', $1, true)
             ),
             -- Locked, so that no other message takes them and no cleanup deletes them.
             taken as (
                 select id, name, type, octet_length(content) as bytes, width, height from files
                 where id = any($11) and user_id = $2 and channel_id = $3 and message_id is null
                 for update
             ),
             message as (
                 insert into messages (
                     user_id, channel_id, source, html, idempotency_key, idempotency_digest, thread_id, mentions, files
                 )
                 select
                     $2, channels.id, $4, $5, $6, case when $6::uuid is not null then sha256($12) end, $9, $10, (
                         select coalesce(
                             jsonb_agg(jsonb_strip_nulls(to_jsonb(taken)) order by array_position($11, id)), '[]'
                         ) from taken
                     )
                 from request, channels
                 where channels.id = $3 and archived_at is null and (channels.id = $8 or exists (
                     select from channel_members where channel_id = $3 and channel_members.user_id = $2
                         and left_at is null
                 )) and ($9::bigint is null or exists (
                     select from messages as first
                     where first.id = $9 and first.channel_id = $3 and thread_id is null and deleted_at is null
                 )) and (select count(*) from taken) = cardinality($11::bigint[])
                 on conflict on constraint messages_idempotency_key do nothing
                 returning id, user_id, channel_id, source, html, created_at, updated_at, version, thread_id, mentions,
                     files
             ),
             attached as (
                 update files set message_id = message.id from message where files.id = any($11)
             ),
             first as (
                 update messages set reply_count = messages.reply_count + 1, last_reply_at = message.created_at,
                     annotated_version = messages.version + 1
                 from message where messages.id = message.thread_id
             ),
             preview as (
                 insert into link_previews (message_id, position, url, correlation_id)
                 select message.id, link.number - 1, link.url, $1
                 from message, unnest($7::text[]) with ordinality as link (url, number)
             )
             select * from message",
        )
        .bind(&context.correlation_id)
        .bind(user_id)
        .bind(new.channel_id)
        .bind(rendered.source)
        .bind(&rendered.html)
        .bind(key)
        .bind(&rendered.links)
        .bind(GENERAL_CHANNEL_ID)
        .bind(new.thread_id)
        .bind(column_of(&rendered.mentions))
        .bind(new.file_ids)
        .bind(new.digested())
        .fetch_optional(&self.pool)
        .await
        // The constraint exists only in the monolith's database.
        .on_constraint("messages_user_id_fkey", || model::author_is_gone(user_id))?;
        if let Some(message) = inserted {
            return Ok(message);
        }
        if let Some(message) = self.find_by_key(user_id, new, key).await? {
            return Ok(message);
        }
        self.access(user_id, new.channel_id).await?.as_member()?;
        if let Some(id) = new.thread_id
            && !self.can_have_replies(new.channel_id, id).await?
        {
            return Err(model::no_such_thread(id).into());
        }
        if !self.can_attach(user_id, new.channel_id, new.file_ids).await? {
            return Err(model::files::cannot_attach().into());
        }
        Err(model::channels::is_archived(new.channel_id).into())
    }

    async fn find_by_key(&self, user_id: i64, new: &NewMessage<'_>, key: Option<Uuid>) -> StoreResult<Option<Message>> {
        let statement = format!(
            "select {COLUMNS},
                 idempotency_digest = sha256($4) and channel_id = $2
                     and thread_id is not distinct from $5 as is_retry
             from messages where user_id = $1 and idempotency_key = $3"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(user_id)
            .bind(new.channel_id)
            .bind(key)
            .bind(new.digested())
            .bind(new.thread_id)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get("is_retry")? { Ok(Some(Message::from_row(&row)?)) } else { Err(model::key_reused().into()) }
    }

    async fn can_have_replies(&self, channel_id: i64, id: i64) -> StoreResult<bool> {
        Ok(sqlx::query_scalar(
            "select exists (
                 select from messages where id = $1 and channel_id = $2 and thread_id is null and deleted_at is null
             )",
        )
        .bind(id)
        .bind(channel_id)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Returns the users with these nicknames who can see the channel, at most `MENTIONS_MAX`. The names are in lower
    /// case.
    pub async fn users_with_nicknames(
        &self,
        channel_id: i64,
        names: &BTreeSet<String>,
    ) -> StoreResult<BTreeMap<i64, String>> {
        let users: Vec<(i64, String)> = sqlx::query_as(
            "select user_id, nickname from nicknames
             where lower(nickname) = any($2) and (
                 exists (select from channels where id = $1 and kind = 'public')
                 or exists (
                     select from channel_members
                     where channel_id = $1 and channel_members.user_id = nicknames.user_id and left_at is null
                 )
             )
             order by user_id limit $3",
        )
        .bind(channel_id)
        .bind(names.iter().map(String::as_str).collect::<Vec<_>>())
        .bind(i64::try_from(MENTIONS_MAX).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        Ok(users.into_iter().collect())
    }

    /// Returns changed messages of `general`, oldest change first: all that `model::page` may choose. So the database
    /// sends only about as many bytes as the page has. Lengths are read without the texts.
    pub async fn list(&self, updated_since: Option<i64>, with_nickname: bool) -> StoreResult<Vec<Message>> {
        Ok(sqlx::query(
            "with changed as (
                 select id, messages.user_id, channel_id, source, html, created_at, updated_at, files,
                     case when $2::boolean then nickname end as nickname,
                     -- Of the second of updated_since all messages are returned.
                     case when updated_at >= to_timestamp(coalesce($1::bigint, 0) + 1)
                         then octet_length(source) + octet_length(html) else 0 end as bytes
                 from messages
                 left join nicknames on $2 and nicknames.user_id = messages.user_id
                 where channel_id = $6
                     and updated_at > greatest(to_timestamp(coalesce($1, 0)), now() - make_interval(hours => $3))
                 order by updated_at, id
                 limit $4
             ),
             measured as (
                 select *,
                     sum(bytes) over (order by updated_at groups between unbounded preceding and 1 preceding) as earlier
                 from changed
             )
             select id, user_id, channel_id, source, html, created_at, updated_at, nickname, files
             from measured where coalesce(earlier, 0) < $5 order by updated_at, id",
        )
        .bind(updated_since)
        .bind(with_nickname)
        .bind(LIST_HOURS_MAX)
        .bind(LIST_MESSAGES_MAX)
        .bind(i64::try_from(LIST_BYTES_MAX).unwrap_or(i64::MAX))
        .bind(GENERAL_CHANNEL_ID)
        // By position: sqlx would look up eight names for each row of the most frequent query.
        .try_map(|row: PgRow| {
            Ok(Message {
                id: row.try_get(0)?,
                user_id: row.try_get(1)?,
                channel_id: row.try_get(2)?,
                source: row.try_get(3)?,
                html: row.try_get(4)?,
                created_at: row.try_get(5)?,
                updated_at: row.try_get(6)?,
                nickname: row.try_get(7)?,
                files: row.try_get::<Json<_>, _>(8)?.0,
                ..Message::default()
            })
        })
        .fetch_all(&self.pool)
        .await?)
    }

    pub async fn find(&self, id: i64) -> StoreResult<Option<Message>> {
        let statement = format!("select {COLUMNS} from messages where id = $1");
        Ok(sqlx::query_as(AssertSqlSafe(statement)).bind(id).fetch_optional(&self.pool).await?)
    }

    /// Replaces source and HTML, and queues the previews. 404 when there is no such message or it is deleted, 403 when
    /// it has another author, 412 when its content is not that of the version `if_match`.
    pub async fn update(
        &self,
        context: &Context,
        user_id: i64,
        id: i64,
        if_match: Option<i64>,
        rendered: &Rendered<'_>,
    ) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let locked = lock_own(&mut transaction, user_id, id).await?;
        if locked.is_deleted {
            return Err(model::no_such_message(id).into());
        }
        check_version(if_match, locked.content_version, locked.version)?;
        sqlx::query(
            "update messages set source = $2, html = $3, mentions = $4, updated_at = now(), edited_at = now()
             where id = $1",
        )
        .bind(id)
        .bind(rendered.source)
        .bind(&rendered.html)
        .bind(column_of(&rendered.mentions))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from link_previews where message_id = $1").bind(id).execute(&mut *transaction).await?;
        sqlx::query(
            "insert into link_previews (message_id, position, url, correlation_id)
             select $1, link.number - 1, link.url, $3
             from unnest($2::text[]) with ordinality as link (url, number)",
        )
        .bind(id)
        .bind(&rendered.links)
        .bind(&context.correlation_id)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Erases source, HTML, previews, mentions, reactions, the pin and, by a trigger, the files of a message. The row
    /// stays, and its replies. 404 when there is no such message, 403 when it has another author, 412 when its content
    /// is not that of the version `if_match`.
    pub async fn delete(&self, context: &Context, user_id: i64, id: i64, if_match: Option<i64>) -> StoreResult<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let locked = lock_own(&mut transaction, user_id, id).await?;
        // Also with the former version: the request may be repeated.
        if locked.is_deleted {
            return Ok(());
        }
        check_version(if_match, locked.content_version, locked.version)?;
        sqlx::query(
            "update messages set source = '', html = '', mentions = null, reactions = '[]', pinned_at = null,
                 updated_at = now(), deleted_at = now()
             where id = $1",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from link_previews where message_id = $1").bind(id).execute(&mut *transaction).await?;
        sqlx::query(
            "update messages set reply_count = reply_count - 1, annotated_version = version + 1
             where id = $1 and reply_count > 0",
        )
        .bind(locked.thread_id)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Sets a nickname, unless a later version of the user is stored.
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

    pub async fn delete_nickname(connection: &mut PgConnection, user_id: i64) -> sqlx::Result<()> {
        sqlx::query("delete from nicknames where user_id = $1").bind(user_id).execute(connection).await?;
        Ok(())
    }
}

/// A message that no other transaction changes meanwhile.
#[derive(FromRow)]
struct Locked {
    user_id: i64,
    thread_id: Option<i64>,
    version: i64,
    content_version: i64,
    is_deleted: bool,
}

/// Locks a message of the user. 404 when there is no such message, 403 when it has another author.
async fn lock_own(connection: &mut PgConnection, user_id: i64, id: i64) -> StoreResult<Locked> {
    let found: Option<Locked> = sqlx::query_as(
        "select user_id, thread_id, version, coalesce(content_version, version) as content_version,
             deleted_at is not null as is_deleted
         from messages where id = $1 for update",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    match found {
        None => Err(model::no_such_message(id).into()),
        Some(locked) if locked.user_id != user_id => Err(model::not_your_message(id).into()),
        Some(locked) => Ok(locked),
    }
}

/// 412 when the request is about a version with another content than the present one. `content_version` is the version
/// of the last change of the content.
fn check_version(if_match: Option<i64>, content_version: i64, version: i64) -> StoreResult<()> {
    if if_match.is_none_or(|expected| (content_version..=version).contains(&expected)) {
        Ok(())
    } else {
        Err(model::precondition_failed(version).into())
    }
}

/// Returns the value of the column `mentions`.
fn column_of(mentions: &Mentions) -> Option<Json<&Mentions>> {
    (!mentions.is_empty()).then_some(Json(mentions))
}
