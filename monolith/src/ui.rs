//! Ui, in the monolith: the face. Serves the browser app and owns `preferences` and `read_markers`.
//!
//! Like users it joins nothing, so its pages, handlers and SQL are linked from the service; what this database adds is
//! that preferences and markers belong to users who exist, and go when they go.

use flack_ui::store::Store;
use sqlx::PgPool;

pub use flack_ui::{handlers::Ui, pages};

/// What the module is made of.
pub fn start(pool: &PgPool) -> Ui {
    Ui::new(Store::new(pool.clone()))
}
