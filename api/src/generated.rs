//! The code that `build/` generates, and the names that it uses.
#![expect(
    clippy::pedantic,
    clippy::large_enum_variant,
    reason = "typify and progenitor generate code that nobody reads; most events are of messages, the largest ones"
)]
#![cfg_attr(
    feature = "mock",
    expect(
        missing_debug_implementations,
        clippy::to_string_in_format_args,
        reason = "progenitor generates the mock servers"
    )
)]

pub(crate) use std::sync::Arc;

pub(crate) use axum::{
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
pub(crate) use http::Method;

pub(crate) use crate::{
    BasicCaller, Context, Layer, Layered, OperationInfo, Problem, TokenCaller, VerifyToken,
    client::{Call, Peer},
    server::{
        Answer, method_not_allowed_fallback, open,
        shape::{Field, Shape, is, is_between},
    },
};

/// One module for each document of `openapi/`.
pub mod services {
    include!(concat!(env!("OUT_DIR"), "/services.rs"));
}

/// Websocket frames: JSON text, one object each, `type` first.
pub mod frames {
    include!(concat!(env!("OUT_DIR"), "/frames.rs"));
    /// The JSON Schema that this module is generated from.
    pub const SCHEMA: &str = include_str!("../schemas/frames.schema.json");
}

/// Websocket frames after a `hello` with `version: 2`.
pub mod frames_v2 {
    include!(concat!(env!("OUT_DIR"), "/frames_v2.rs"));
    /// The JSON Schema that this module is generated from.
    pub const SCHEMA: &str = include_str!("../schemas/frames.v2.schema.json");
}

/// Events without their envelope, which `crate::events` adds.
pub mod events {
    include!(concat!(env!("OUT_DIR"), "/events.rs"));
}
