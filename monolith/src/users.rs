//! Users, in the monolith: who is who, and who is here. Owns the table `users`.
//!
//! Users leans on nobody: it joins no table of another module, so what was taken out of the monolith was taken out word
//! for word. Its handlers and its SQL are linked from the service, over this process's database.

use flack_common::process::Background;
use flack_users::{presence, store::Store};
use sqlx::PgPool;

use crate::authority::{Authority, Resource};

pub use flack_users::handlers::Users;

/// What the module is made of, and what runs beside it.
pub fn start(pool: &PgPool, authority: &Authority, background: &Background) -> Users {
    let store = Store::new(pool.clone());
    let (swept, authority, stopping) = (store.clone(), authority.clone(), background.stopping());
    background.supervise("presence", move || {
        let authority = authority.clone();
        presence::run(swept.clone(), move || authority.owns(Resource::Users), stopping.clone())
    });
    Users::new(store)
}
