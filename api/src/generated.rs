//! What `build/` made, one module for each document of `openapi/`, and the names that it uses.
#![expect(clippy::pedantic, reason = "what typify and progenitor write is not meant to be read")]
#![cfg_attr(
    feature = "mock",
    expect(
        missing_debug_implementations,
        clippy::to_string_in_format_args,
        reason = "so are progenitor's mocks"
    )
)]

pub(crate) use std::sync::Arc;

pub(crate) use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
pub(crate) use http::Method;

pub(crate) use crate::{
    BasicCaller, Context, Problem, TokenCaller, VerifyToken,
    client::{Call, Peer},
    server::{Answer, Operation, method_not_allowed_fallback, open},
};

pub mod users {
    include!(concat!(env!("OUT_DIR"), "/users.rs"));
    #[cfg(feature = "mock")]
    pub mod mock {
        include!(concat!(env!("OUT_DIR"), "/users_mock.rs"));
    }
}

pub mod tokens {
    include!(concat!(env!("OUT_DIR"), "/tokens.rs"));
    #[cfg(feature = "mock")]
    pub mod mock {
        include!(concat!(env!("OUT_DIR"), "/tokens_mock.rs"));
    }
}

pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
    #[cfg(feature = "mock")]
    pub mod mock {
        include!(concat!(env!("OUT_DIR"), "/messages_mock.rs"));
    }
}

pub mod ui {
    include!(concat!(env!("OUT_DIR"), "/ui.rs"));
    #[cfg(feature = "mock")]
    pub mod mock {
        include!(concat!(env!("OUT_DIR"), "/ui_mock.rs"));
    }
}

/// What goes over the websocket: JSON text, one object each, `type` first.
pub mod frames {
    include!(concat!(env!("OUT_DIR"), "/frames.rs"));
    /// The JSON Schema that this module is made from.
    pub const SCHEMA: &str = include_str!("../schemas/frames.schema.json");
}

/// For `crate::events`, which adds the envelope.
pub mod events {
    include!(concat!(env!("OUT_DIR"), "/events.rs"));
}
