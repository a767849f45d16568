//! The SQL of link previews: the queue that the worker takes from, and the results.

use async_trait::async_trait;
use flack_api::Context;
use flack_common::database;

use super::Store;
use crate::{
    preview::{self, Job, Outcome, PreviewQueue},
    render::{self, Preview},
};

#[async_trait]
impl PreviewQueue for Store {
    async fn take(&self, limit: i64) -> sqlx::Result<Vec<Job>> {
        let mut transaction = self.pool.begin().await?;
        // Taken as often as may be, and never finished: whoever works on it dies of it.
        sqlx::query(
            "update link_previews set state = 'failed'
             where id in (
                 select id from link_previews
                 where state = 'pending' and next_attempt_at <= now() and attempts >= $1
                 for update skip locked
             )",
        )
        .bind(preview::ATTEMPTS_MAX)
        .execute(&mut *transaction)
        .await?;
        let jobs = sqlx::query_as(
            "update link_previews set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $1)
             where id in (
                 select id from link_previews
                 where state = 'pending' and next_attempt_at <= now()
                 order by next_attempt_at, id
                 limit $2
                 for update skip locked
             )
             returning id, message_id, url, attempts, correlation_id",
        )
        .bind(preview::LEASE.as_secs_f64())
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(jobs)
    }

    async fn finish(&self, context: &Context, job: &Job, outcome: &Outcome) -> sqlx::Result<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let message: Option<(String,)> =
            sqlx::query_as("select source from messages where id = $1 for update")
                .bind(job.message_id)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some((source,)) = message else { return Ok(()) };
        let (state, title, description, delay_seconds) = outcome.columns();
        let updated = sqlx::query(
            "update link_previews set state = $2, title = $3, description = $4,
                 next_attempt_at = now() + make_interval(secs => $5)
             where id = $1 and state = 'pending'",
        )
        .bind(job.id)
        .bind(state)
        .bind(title)
        .bind(description)
        .bind(delay_seconds)
        .execute(&mut *transaction)
        .await?;
        // Nothing there to update: the message was edited meanwhile, or somebody else was faster.
        if updated.rows_affected() > 0 && title.is_some() {
            let previews: Vec<(String, String, Option<String>)> = sqlx::query_as(
                "select url, title, description from link_previews
                 where message_id = $1 and state = 'fetched' and title is not null
                 order by position",
            )
            .bind(job.message_id)
            .fetch_all(&mut *transaction)
            .await?;
            let previews: Vec<Preview> = previews
                .into_iter()
                .map(|(url, title, description)| Preview { url, title, description })
                .collect();
            // A change as any other: with its version, its journal row and its event to all sockets.
            sqlx::query("update messages set html = $2, updated_at = now() where id = $1")
                .bind(job.message_id)
                .bind(render::render(&source, &previews))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }
}
