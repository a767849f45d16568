//! The SQL of link previews: a work queue in the rows that will hold the results.

use flack_api::{Context, events::PreviewModel};
use flack_common::database;
use sqlx::types::Json;

use super::Store;
use crate::{
    mentions::Mentions,
    preview::{ATTEMPTS_MAX, Job, LEASE, Outcome},
    render::Previewed,
};

impl Store {
    /// Takes up to `limit` due jobs for `LEASE`. Jobs that have had `ATTEMPTS_MAX` attempts become failed.
    pub async fn take(&self, limit: i64) -> sqlx::Result<Vec<Job>> {
        let mut transaction = self.pool.begin().await?;
        // Taken `ATTEMPTS_MAX` times and never finished: each worker was killed or crashed.
        sqlx::query(
            "update link_previews set state = 'failed'
             where id in (
                 select id from link_previews
                 where state = 'pending' and next_attempt_at <= now() and attempts >= $1
                 for update skip locked
             )",
        )
        .bind(ATTEMPTS_MAX)
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
        .bind(LEASE.as_secs_f64())
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(jobs)
    }

    /// Stores the outcome of a job. With a preview, also stores the message's HTML and previews, which `render` makes
    /// from its source, its mentions and all its previews. Does nothing when the message was edited or another worker
    /// has finished the job.
    pub async fn finish(
        &self,
        context: &Context,
        job: &Job,
        outcome: &Outcome,
        render: impl Fn(&str, Mentions, Vec<PreviewModel>) -> Previewed + Send,
    ) -> sqlx::Result<()> {
        let mut transaction = database::begin(&self.pool, context).await?;
        let message: Option<(String, Option<Json<Mentions>>)> =
            sqlx::query_as("select source, mentions from messages where id = $1 for update")
                .bind(job.message_id)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some((source, mentions)) = message else { return Ok(()) };
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
        if updated.rows_affected() > 0 && title.is_some() {
            let Json(previews): Json<Vec<PreviewModel>> = sqlx::query_scalar(
                "select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                     'url', url, 'title', title, 'description', description)) order by position)
                 from link_previews where message_id = $1 and state = 'fetched' and title is not null",
            )
            .bind(job.message_id)
            .fetch_one(&mut *transaction)
            .await?;
            let mentions = mentions.map(|Json(mentions)| mentions).unwrap_or_default();
            let Previewed { html, start, previews } = render(&source, mentions, previews);
            // None when each preview was too long.
            let start = if previews.is_empty() { None } else { i32::try_from(start).ok() };
            sqlx::query(
                "update messages set html = $2, previews = $3, previews_start = $4, updated_at = now() where id = $1",
            )
            .bind(job.message_id)
            .bind(html)
            .bind(Json(previews))
            .bind(start)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}
