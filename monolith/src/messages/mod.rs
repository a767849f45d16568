//! Messages, in the monolith: what was said. Owns `channels`, `messages` and `link_previews`.
//!
//! Its tables point at users, and its lists join them: that is what one database gives, and what a copy of nicknames made
//! from events stands for in the service. What is the same in both shapes (rendering, previews, most of the SQL) is linked
//! from the service.

mod store;
mod handlers;

use std::sync::Arc;

use flack_common::{fetch::PublicFetcher, process::Background};
use flack_messages::{preview, store::Store as SharedStore};
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::authority::{Authority, Resource};

pub use handlers::Messages;

/// What the module is made of, and what runs beside it.
pub fn start(pool: &PgPool, authority: &Authority, background: &Background) -> Messages {
    let shared = SharedStore::new(pool.clone());
    let linked = Arc::new(Notify::new());

    let (queue, fetcher, wake) = (Arc::new(shared.clone()), PublicFetcher::new(), Arc::clone(&linked));
    let (authority, stopping) = (authority.clone(), background.stopping());
    background.supervise("previews", move || {
        let authority = authority.clone();
        let owns = move || authority.owns(Resource::Messages);
        preview::run(Arc::clone(&queue) as _, fetcher.clone(), Arc::clone(&wake), owns, stopping.clone())
    });

    Messages { store: store::Store::new(pool.clone()), shared, linked }
}

#[cfg(test)]
mod tests;
