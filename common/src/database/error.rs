//! The one error type of every `store.rs`, and how a database error becomes an API error.

use flack_api::Problem;
use thiserror::Error;
use tracing::{error, warn};

use crate::authority;

/// An error of a store: a domain error, or an error of the database.
///
/// In a store, `?` converts `sqlx::Error` and `Problem` into it. In a handler, `?` converts it into a `Problem`.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The result of a store function.
pub type StoreResult<T> = Result<T, StoreError>;

/// Turns the violation of a named constraint into a domain error.
pub trait OnConstraint<T> {
    /// Returns `problem` when `constraint` was violated; every other error stays as it is.
    ///
    /// ```ignore
    /// insert.execute(&pool).await.on_constraint("users_nickname_key", || model::nickname_taken(nickname))?;
    /// ```
    fn on_constraint(self, constraint: &str, problem: impl FnOnce() -> Problem) -> StoreResult<T>;
}

impl<T, E: Into<StoreError>> OnConstraint<T> for Result<T, E> {
    fn on_constraint(self, constraint: &str, problem: impl FnOnce() -> Problem) -> StoreResult<T> {
        self.map_err(|error| match error.into() {
            StoreError::Database(sqlx::Error::Database(error)) if error.constraint() == Some(constraint) => {
                StoreError::Problem(problem())
            }
            error => error,
        })
    }
}

/// Logs a database error once. The answer contains only whether another try may succeed.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Problem(problem) => problem,
            StoreError::Database(error) if is_queue_full(&error) => {
                warn!(error = %error, "write refused: the queue of unpublished events is full");
                Self::unavailable("writing (the events pipeline has been unavailable for too long)")
            }
            StoreError::Database(error) if is_fenced(&error) => {
                warn!(error = %error, "write refused: this database is not the owner");
                authority::refused("this data is moving to another process; try again in a moment".to_owned())
            }
            StoreError::Database(error) if is_unavailable(&error) => {
                warn!(error = %error, "the database is unavailable or overloaded");
                Self::unavailable("the database")
            }
            StoreError::Database(error) => {
                error!(error = %error, "a statement failed");
                Self::internal()
            }
        }
    }
}

/// Raised by the journal's trigger; see `migrations/shared/`.
fn is_queue_full(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.code().as_deref() == Some("FLQ01"))
}

/// Raised by the trigger `ownership_check`; see `migrations/shared/`.
fn is_fenced(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.code().as_deref() == Some("FL001"))
}

/// Whether the same statement may succeed a moment later.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // Connection lost (08), too many connections (53), shutdown or startup (57P), timeout (57014, 25P03),
            // serialization failure, deadlock, lock not available.
            code.starts_with("08")
                || code.starts_with("53")
                || code.starts_with("57P")
                || matches!(&*code, "57014" | "40001" | "40P01" | "55P03" | "25P03")
        }),
        _ => false,
    }
}
