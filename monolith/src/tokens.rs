//! Tokens, in the monolith: proof of who is asking. Owns `signing_keys` and `tokens`; whose password it is, it asks users
//! through the seam.
//!
//! Its SQL uses what one database gives: a token is stored only while its user's password stands, which the next table
//! says. What is the same in both shapes (keys, announcements, cleanup) is linked from the service.

mod store;
mod handlers;
mod passwords;

use std::sync::Arc;

use flack_api::users::UsersApi;
use flack_common::{
    auth::Verifier,
    events::{Consumer, Events},
    process::Background,
    registry::Registry,
};
use flack_tokens::{announce::Announcer, cleanup, keys::SigningKeys, store::Store as SharedStore};
use sqlx::PgPool;

use self::passwords::PasswordChanges;
use crate::authority::{Authority, Resource};

pub use handlers::Tokens;

/// What the module is made of, and what runs beside it.
pub fn start(
    pool: &PgPool,
    events: &Events,
    verifier: Arc<Verifier>,
    registry: Option<Registry>,
    users: Arc<dyn UsersApi>,
    authority: &Authority,
    background: &Background,
) -> Tokens {
    let shared = SharedStore::new(pool.clone());
    let announcer = Arc::new(Announcer::new(shared.clone(), verifier, registry));
    let keys = Arc::new(SigningKeys::new(shared.clone(), announcer.clone()));

    let handler = Arc::new(PasswordChanges::new(announcer.clone(), authority.clone()));
    let consumer = Consumer::new(crate::SERVICE, pool.clone(), events.clone(), handler)
        .only(flack_tokens::consumer::KIND);
    background.spawn("consumer of monolith", consumer.run(background.stopping()));

    let owns = authority.clone();
    let owns = move || owns.owns(Resource::Tokens);
    let (cleaned, owns_tokens, stopping) = (shared.clone(), owns.clone(), background.stopping());
    background.supervise("token cleanup", move || {
        cleanup::run(cleaned.clone(), owns_tokens.clone(), stopping.clone())
    });
    let (announcing, stopping) = (announcer.clone(), background.stopping());
    background.supervise("announcements", move || announcing.clone().run(owns.clone(), stopping.clone()));

    Tokens { store: store::Store::new(pool.clone()), shared, keys, announcer, users }
}
