//! The owners' databases, read with the superuser's account.

use flack_catalogue::{SERVICES, Service};
use sqlx::postgres::PgConnection;

use crate::failure::{Failure, Result};
use crate::infra::postgres;
use crate::stack::Stack;

/// A connection to one owner's database.
pub(super) struct Database {
    pub(super) owner: &'static Service,
    pub(super) connection: PgConnection,
}

impl Database {
    pub(super) async fn open(stack: &Stack, owner: &'static Service) -> Result<Self> {
        let connection = postgres::connect_to(&stack.ports, &stack.secrets, owner.database)
            .await
            .map_err(|error| unreachable_postgres(stack, owner.database, &error))?;
        Ok(Self { owner, connection })
    }

    /// Opens all databases with tables: a service that was never started has none, and in containers no PostgreSQL.
    pub(super) async fn open_all(stack: &Stack) -> Result<Vec<Self>> {
        let mut databases = Vec::new();
        for owner in SERVICES.iter().filter(|owner| stack.ports.postgres_host(owner.database).is_some()) {
            let mut database = Self::open(stack, owner).await?;
            if database.is_migrated().await? {
                databases.push(database);
            }
        }
        Ok(databases)
    }

    /// Opens a database, and fails if it has no tables.
    pub(super) async fn open_migrated(stack: &Stack, owner: &'static Service) -> Result<Self> {
        let mut database = Self::open(stack, owner).await?;
        if database.is_migrated().await? {
            return Ok(database);
        }
        Err(failure!(
            Unavailable,
            "the database of {owner} is empty: {owner} never ran in this stack. Start it with mfrun {owner}"
        ))
    }

    async fn is_migrated(&mut self) -> Result<bool> {
        sqlx::query_scalar("select to_regclass('inbox') is not null and to_regclass('journal_queue') is not null")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &sqlx::Error) -> Failure {
        failed(self.owner, error)
    }
}

/// Returns the failure of a statement.
pub(super) fn failed(owner: &'static Service, error: &sqlx::Error) -> Failure {
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        // Undefined function, table or column: the service that migrates this database is older than this mf.
        Some("42883" | "42P01" | "42703") => failure!(
            Unavailable,
            "the database of {owner} is older than this mf. \
             Restart {owner}, so that it migrates its database: mfkill {owner} all --hard"
        ),
        // `raise exception ... using errcode = 'invalid_parameter_value'`: its text is for people.
        Some("22023") => failure!(
            Usage,
            "{}",
            error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        ),
        _ => failure!(Internal, "the database of {owner} reports: {error}"),
    }
}

fn unreachable_postgres(stack: &Stack, database: &str, error: &sqlx::Error) -> Failure {
    failure!(
        Unavailable,
        "PostgreSQL does not respond at {} ({error}). mfps shows what runs; mfup starts what is missing",
        stack.ports.postgres_address(database)
    )
}
