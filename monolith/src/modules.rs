//! The modules, each behind its seam. What stands here as `Arc<dyn UsersApi>` is a generated client in the services:
//! nothing else changes when a module moves out.

use std::sync::Arc;

use axum::Router;
use flack_api::{
    VerifyToken, docs,
    messages::{self, MessagesApi},
    tokens::{self, TokensApi},
    ui::{self, UiApi},
    users::{self, UsersApi},
};
use flack_common::{auth::Verifier, events::Events, process::Background, registry::Registry};
use sqlx::PgPool;

use crate::{
    authority::{Authority, Guarded, Resource},
    websocket::Seams,
};

/// Every seam of the process.
#[derive(Clone)]
pub struct Modules {
    pub users: Arc<dyn UsersApi>,
    pub tokens: Arc<dyn TokensApi>,
    pub messages: Arc<dyn MessagesApi>,
    pub ui: Arc<dyn UiApi>,
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Modules").finish_non_exhaustive()
    }
}

impl Modules {
    /// Starts them, the ones that nobody else is needed for first.
    pub async fn start(
        pool: &PgPool,
        events: &Events,
        verifier: &Arc<Verifier>,
        registry: Option<Registry>,
        authority: Authority,
        background: &Background,
    ) -> anyhow::Result<Self> {
        let users: Arc<dyn UsersApi> = Arc::new(crate::users::start(pool, &authority, background));
        let users: Arc<dyn UsersApi> = Arc::new(Guarded::new(authority.clone(), users));

        let tokens = crate::tokens::start(
            pool,
            events,
            Arc::clone(verifier),
            registry,
            Arc::clone(&users),
            &authority,
            background,
        );
        if authority.owns(Resource::Tokens) {
            tokens.prepare().await?;
        }
        let tokens: Arc<dyn TokensApi> = Arc::new(tokens);
        let tokens: Arc<dyn TokensApi> = Arc::new(Guarded::new(authority.clone(), tokens));

        let messages: Arc<dyn MessagesApi> = Arc::new(crate::messages::start(pool, &authority, background));
        let messages: Arc<dyn MessagesApi> = Arc::new(Guarded::new(authority, messages));

        let ui: Arc<dyn UiApi> = Arc::new(crate::ui::start(pool));
        Ok(Self { users, tokens, messages, ui })
    }

    /// Everything that the process answers.
    pub fn router(&self, verifier: Arc<Verifier>, events: &Events, background: &Background) -> Router {
        let revocations = verifier.revocations();
        let verify: Arc<dyn VerifyToken> = verifier;
        let seams = Seams {
            users: Arc::clone(&self.users),
            messages: Arc::clone(&self.messages),
            revocations,
            verify: Arc::clone(&verify),
        };
        Router::new()
            .merge(crate::websocket::start(events, seams, background))
            .merge(users::router(Arc::clone(&self.users), Arc::clone(&verify)))
            .merge(tokens::router(Arc::clone(&self.tokens), Arc::clone(&verify)))
            .merge(messages::router(Arc::clone(&self.messages), Arc::clone(&verify)))
            .merge(crate::ui::pages::router())
            .merge(ui::router(Arc::clone(&self.ui), verify))
            .merge(docs::router())
    }
}
