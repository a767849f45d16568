//! The owners' databases, as the superuser sees them.

use flack_catalogue::{SERVICES, Service};
use sqlx::postgres::PgConnection;

use crate::failure::{Failure, Result};
use crate::infra::postgres;
use crate::stack::Stack;

/// One owner's database, connected.
pub(super) struct Database {
    pub(super) owner: &'static Service,
    pub(super) connection: PgConnection,
}

impl Database {
    pub(super) async fn open(stack: &Stack, owner: &'static Service) -> Result<Self> {
        let connection = postgres::connect_to(&stack.ports, &stack.secrets, owner.database)
            .await
            .map_err(|error| unreachable_postgres(stack, &error))?;
        Ok(Self { owner, connection })
    }

    /// All that have been used: a service that was never started has no tables.
    pub(super) async fn open_all(stack: &Stack) -> Result<Vec<Self>> {
        let mut databases = Vec::new();
        for owner in &SERVICES {
            let mut database = Self::open(stack, owner).await?;
            if database.is_migrated().await? {
                databases.push(database);
            }
        }
        Ok(databases)
    }

    /// Like `open`, for one that must have been used.
    pub(super) async fn open_migrated(stack: &Stack, owner: &'static Service) -> Result<Self> {
        let mut database = Self::open(stack, owner).await?;
        if database.is_migrated().await? {
            return Ok(database);
        }
        Err(Failure::unavailable(format!(
            "the database of {owner} is empty: {owner} never ran in this stack. Start it with mfrun {owner}"
        )))
    }

    async fn is_migrated(&mut self) -> Result<bool> {
        sqlx::query_scalar(
            "select to_regclass('inbox') is not null and to_regclass('journal_queue') is not null",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &sqlx::Error) -> Failure {
        failed(self.owner, error)
    }
}

/// What a statement's failure means.
pub(super) fn failed(owner: &'static Service, error: &sqlx::Error) -> Failure {
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        // Undefined function, table or column: the service that migrates this database is older than this mf.
        Some("42883" | "42P01" | "42703") => Failure::unavailable(format!(
            "the database of {owner} is older than this mf. \
             Restart {owner}, so that it migrates its database: mfkill {owner} all --hard"
        )),
        // `raise exception ... using errcode = 'invalid_parameter_value'`: its text is made for people.
        Some("22023") => Failure::usage(
            error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()),
        ),
        _ => Failure::internal(format!("the database of {owner} says: {error}")),
    }
}

fn unreachable_postgres(stack: &Stack, error: &sqlx::Error) -> Failure {
    Failure::unavailable(format!(
        "PostgreSQL does not answer on port {} ({error}). mfps shows what runs; mfup starts what is missing",
        stack.ports.postgres
    ))
}
